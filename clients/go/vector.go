package siglipclient

import (
	"encoding/binary"
	"fmt"
	"math"

	pb "siglipclient/build/siglip/v1"
)

// Embedding is the vector of one item, or why there is none: an *ItemError of the service, or an
// *UndecodableError.
type Embedding struct {
	Vector []float32
	Dtype  pb.Dtype
	Err    error
}

// UndecodableError is about a vector in an encoding that this client does not know.
type UndecodableError struct{ message string }

func (e *UndecodableError) Error() string { return e.message }

// Embeddings reads the results of EmbedTexts and EmbedImages.
func Embeddings(results []*pb.EmbeddingResult) []Embedding {
	embeddings := make([]Embedding, len(results))
	for i, result := range results {
		embeddings[i] = embedding(result.GetEmbedding(), result.GetError())
	}
	return embeddings
}

func embedding(vector *pb.Vector, failed *pb.ItemError) Embedding {
	if failed != nil {
		return Embedding{Err: &ItemError{failed}}
	}
	numbers, err := Decode(vector)
	return Embedding{numbers, vector.GetDtype(), err}
}

// Decode gives the numbers of a vector, scale applied: float32 [dim].
func Decode(vector *pb.Vector) ([]float32, error) {
	size, number := encoding(vector.GetDtype())
	if size == 0 {
		return nil, &UndecodableError{fmt.Sprintf("a vector has the unknown dtype %v", vector.GetDtype())}
	}
	data, dim := vector.GetData(), int(vector.GetDim())
	if len(data) != dim*size {
		return nil, &UndecodableError{fmt.Sprintf("a vector of %d numbers has %d bytes, not %d", dim, len(data), dim*size)}
	}
	numbers := make([]float32, dim)
	for i := range numbers {
		numbers[i] = number(data[i*size:])
	}
	if vector.GetDtype() == pb.Dtype_DTYPE_I8 {
		for i := range numbers {
			numbers[i] *= vector.GetScale()
		}
	}
	return numbers, nil
}

// encoding of a dtype: bytes of a number, and how they are read. 0 bytes: not known.
func encoding(dtype pb.Dtype) (int, func([]byte) float32) {
	switch dtype {
	case pb.Dtype_DTYPE_F32:
		return 4, float32At
	case pb.Dtype_DTYPE_F16:
		return 2, func(data []byte) float32 { return halfFloat(binary.LittleEndian.Uint16(data)) }
	case pb.Dtype_DTYPE_BF16: // the upper half of a float32
		return 2, func(data []byte) float32 {
			return math.Float32frombits(uint32(binary.LittleEndian.Uint16(data)) << 16)
		}
	case pb.Dtype_DTYPE_I8:
		return 1, func(data []byte) float32 { return float32(int8(data[0])) }
	}
	return 0, nil
}

func float32At(data []byte) float32 { return math.Float32frombits(binary.LittleEndian.Uint32(data)) }

// halfFloat reads IEEE 754 float16: one bit sign, five bits exponent (bias 15), ten bits fraction.
func halfFloat(bits uint16) float32 {
	exponent, fraction := int(bits>>10&0x1f), float64(bits&0x3ff)
	var magnitude float64
	switch exponent {
	case 0: // subnormal
		magnitude = math.Ldexp(fraction, -24)
	case 0x1f:
		magnitude = math.Inf(1)
		if fraction != 0 {
			magnitude = math.NaN()
		}
	default:
		magnitude = math.Ldexp(1024+fraction, exponent-25)
	}
	return float32(math.Copysign(magnitude, 1-2*float64(bits>>15)))
}

// Rows gives a matrix as float32 [rows][cols].
func Rows(matrix *pb.Matrix) ([][]float32, error) {
	rows, cols, data := int(matrix.GetRows()), int(matrix.GetCols()), matrix.GetData()
	if len(data) != rows*cols*4 {
		return nil, fmt.Errorf("a matrix [%d, %d] has %d bytes, not %d", rows, cols, len(data), rows*cols*4)
	}
	found := make([][]float32, rows)
	for row := range found {
		found[row] = make([]float32, cols)
		for col := range found[row] {
			found[row][col] = float32At(data[(row*cols+col)*4:])
		}
	}
	return found, nil
}
