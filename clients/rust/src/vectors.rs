//! Numbers as they come over the wire, little-endian.

/// How the numbers of a vector are encoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Encoding {
    F32,
    F16,
    Bf16,
    I8 { scale: f32 },
}

/// `count` numbers; None where the bytes are not so many.
pub fn decode(data: &[u8], encoding: Encoding, count: usize) -> Option<Vec<f32>> {
    match encoding {
        Encoding::F32 => numbers(data, count, f32::from_le_bytes),
        Encoding::F16 => numbers(data, count, |bytes| from_f16(u16::from_le_bytes(bytes))),
        // The upper half of a float32.
        Encoding::Bf16 => {
            numbers(data, count, |bytes: [u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16))
        }
        Encoding::I8 { scale } => {
            numbers(data, count, |[byte]: [u8; 1]| scale * f32::from(i8::from_le_bytes([byte])))
        }
    }
}

fn numbers<const WIDTH: usize>(
    data: &[u8],
    count: usize,
    read: impl Fn([u8; WIDTH]) -> f32,
) -> Option<Vec<f32>> {
    if data.len() != count.checked_mul(WIDTH)? {
        return None;
    }
    let chunks = data.chunks_exact(WIDTH);
    Some(chunks.map(|chunk| read(chunk.try_into().expect("chunks_exact"))).collect())
}

fn from_f16(bits: u16) -> f32 {
    let (exponent, fraction) = (bits >> 10 & 31, f32::from(bits & 1023));
    let size = match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (fraction + 1024.0) * 2f32.powi(i32::from(exponent) - 25),
    };
    if bits >> 15 == 1 {
        -size
    } else {
        size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_encoding_gives_its_numbers() {
        assert_eq!(decode(&[0, 0, 128, 63, 0, 0, 0, 192], Encoding::F32, 2), Some(vec![1.0, -2.0]));
        assert_eq!(decode(&[0x80, 0x3f, 0x00, 0xc0], Encoding::Bf16, 2), Some(vec![1.0, -2.0]));
        let scaled = Encoding::I8 { scale: 0.5 };
        assert_eq!(decode(&[127, 0x81, 0], scaled, 3), Some(vec![63.5, -63.5, 0.0]));
    }

    #[test]
    fn float16_is_exact_in_all_its_ranges() {
        let cases: [(u16, f32); 8] = [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x3555, 0.333_251_95),
            (0x7bff, 65504.0),
            (0x0400, 6.103_515_6e-5),  // the least normal one
            (0x0001, 5.960_464_5e-8),  // the least of all
            (0x83ff, -6.097_555_2e-5), // the largest that is not normal
            (0xfc00, f32::NEG_INFINITY),
        ];
        for (bits, value) in cases {
            assert_eq!(decode(&bits.to_le_bytes(), Encoding::F16, 1), Some(vec![value]), "{bits:#x}");
        }
        assert!(decode(&0x7e00u16.to_le_bytes(), Encoding::F16, 1).expect("one")[0].is_nan());
    }

    #[test]
    fn bytes_that_are_not_so_many_numbers_are_none() {
        assert_eq!(decode(&[0; 7], Encoding::F32, 2), None);
        assert_eq!(decode(&[0; 8], Encoding::F16, 2), None);
        assert_eq!(decode(&[], Encoding::F32, usize::MAX), None);
        assert_eq!(decode(&[], Encoding::F32, 0), Some(vec![]));
    }
}
