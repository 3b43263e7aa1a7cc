// matrix.hpp - square complex matrices, and the three things that transport needs of BLAS and LAPACK.
#pragma once

#include <complex>
#include <cstddef>
#include <vector>

namespace lifeboat::omen {

using Complex = std::complex<double>;

// Column by column, as LAPACK has them.
class Matrix {
 public:
  Matrix() = default;
  explicit Matrix(int size)
      : size_(size), values_(static_cast<std::size_t>(size) * static_cast<std::size_t>(size)) {}

  [[nodiscard]] int size() const { return size_; }
  Complex& operator()(int row, int column) { return values_[index(row, column)]; }
  const Complex& operator()(int row, int column) const { return values_[index(row, column)]; }
  [[nodiscard]] Complex* data() { return values_.data(); }
  [[nodiscard]] const Complex* data() const { return values_.data(); }
  // All values, in the order of the memory.
  std::vector<Complex>& values() { return values_; }
  [[nodiscard]] const std::vector<Complex>& values() const { return values_; }

 private:
  [[nodiscard]] std::size_t index(int row, int column) const {
    return static_cast<std::size_t>(column) * static_cast<std::size_t>(size_) +
           static_cast<std::size_t>(row);
  }

  int size_ = 0;
  std::vector<Complex> values_;
};

enum class Op { kAsIs, kAdjoint };

// out = factor * op(a) * op(b) + keep * out; all of one size, `out` neither `a` nor `b`.
void multiply(Complex factor, const Matrix& a, Op op_a, const Matrix& b, Op op_b, Complex keep,
              Matrix& out);
inline Matrix operator*(const Matrix& a, const Matrix& b) {
  Matrix out(a.size());
  multiply(1, a, Op::kAsIs, b, Op::kAsIs, 0, out);
  return out;
}

// In place (LU with partial pivoting). False, and `a` spoiled, if it is singular to the last bit.
[[nodiscard]] bool invert(Matrix& a);

Matrix adjoint(const Matrix& a);
double largest(const Matrix& a);  // modulus of the largest element

// trace(a * adjoint(b)), without the product.
Complex trace_with_adjoint(const Matrix& a, const Matrix& b);

}  // namespace lifeboat::omen
