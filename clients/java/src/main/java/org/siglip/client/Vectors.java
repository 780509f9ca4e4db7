package org.siglip.client;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import org.siglip.v1.Matrix;
import org.siglip.v1.Vector;

/** Vectors and matrices as they travel -> numbers. */
public final class Vectors {
  private Vectors() {}

  /**
   * The numbers of a vector, scale applied: float32 [dim].
   *
   * @throws IllegalArgumentException for an encoding that this client does not know
   */
  public static float[] decode(Vector vector) {
    ByteBuffer data = littleEndian(vector.getData().asReadOnlyByteBuffer());
    int size = numberBytes(vector);
    if (data.remaining() != size * vector.getDim()) {
      throw new IllegalArgumentException(
          "a vector of " + vector.getDim() + " numbers has " + data.remaining() + " bytes");
    }
    float[] numbers = new float[vector.getDim()];
    for (int i = 0; i < numbers.length; i++) {
      numbers[i] = number(data, vector);
    }
    return numbers;
  }

  /**
   * float32 [rows][cols].
   *
   * @throws IllegalArgumentException when the bytes are not as many as that needs
   */
  public static float[][] decode(Matrix matrix) {
    ByteBuffer data = littleEndian(matrix.getData().asReadOnlyByteBuffer());
    if (data.remaining() != 4L * matrix.getRows() * matrix.getCols()) {
      throw new IllegalArgumentException(
          "a matrix [" + matrix.getRows() + ", " + matrix.getCols() + "] has " + data.remaining() + " bytes");
    }
    float[][] rows = new float[matrix.getRows()][matrix.getCols()];
    for (float[] row : rows) {
      for (int i = 0; i < row.length; i++) {
        row[i] = data.getFloat();
      }
    }
    return rows;
  }

  private static ByteBuffer littleEndian(ByteBuffer data) {
    return data.order(ByteOrder.LITTLE_ENDIAN);
  }

  private static int numberBytes(Vector vector) {
    return switch (vector.getDtype()) {
      case DTYPE_F32 -> 4;
      case DTYPE_F16, DTYPE_BF16 -> 2;
      case DTYPE_I8 -> 1;
      default -> throw new IllegalArgumentException(
          "a vector has the unknown dtype " + vector.getDtypeValue());
    };
  }

  private static float number(ByteBuffer data, Vector vector) {
    return switch (vector.getDtype()) {
      case DTYPE_F32 -> data.getFloat();
      case DTYPE_F16 -> halfFloat(data.getShort());
      // The upper half of a float32.
      case DTYPE_BF16 -> Float.intBitsToFloat(data.getShort() << 16);
      default -> vector.getScale() * data.get();
    };
  }

  /** IEEE 754 float16: one bit sign, five bits exponent (bias 15), ten bits fraction. */
  static float halfFloat(short bits) {
    int exponent = bits >> 10 & 0x1f;
    int fraction = bits & 0x3ff;
    float magnitude =
        switch (exponent) {
          case 0 -> Math.scalb((float) fraction, -24); // subnormal
          case 0x1f -> fraction == 0 ? Float.POSITIVE_INFINITY : Float.NaN;
          default -> Math.scalb((float) (1024 + fraction), exponent - 25);
        };
    return bits < 0 ? -magnitude : magnitude;
  }
}
