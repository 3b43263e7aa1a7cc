#include "matrix.hpp"

#include <cblas.h>

#include <algorithm>

extern "C" {
void zgetrf_(const int* rows, const int* columns, void* a, const int* stride, int* pivots, int* info);
void zgetri_(const int* size, void* a, const int* stride, const int* pivots, void* work,
             const int* work_size, int* info);
}

namespace lifeboat::omen {

void multiply(Complex factor, const Matrix& a, Op op_a, const Matrix& b, Op op_b, Complex keep,
              Matrix& out) {
  const auto code = [](Op op) { return op == Op::kAsIs ? CblasNoTrans : CblasConjTrans; };
  const int n = out.size();
  cblas_zgemm(CblasColMajor, code(op_a), code(op_b), n, n, n, &factor, a.data(), n, b.data(), n, &keep,
              out.data(), n);
}

bool invert(Matrix& a) {
  constexpr int kBlock = 64;  // columns at a time: what LAPACK asks for at these sizes
  const int n = a.size(), work_size = n * kBlock;
  int info = 0;
  std::vector<int> pivots(static_cast<std::size_t>(n));
  zgetrf_(&n, &n, a.data(), &n, pivots.data(), &info);
  if (info != 0) return false;
  std::vector<Complex> work(static_cast<std::size_t>(work_size));
  zgetri_(&n, a.data(), &n, pivots.data(), work.data(), &work_size, &info);
  return info == 0;
}

Matrix adjoint(const Matrix& a) {
  Matrix out(a.size());
  for (int column = 0; column < a.size(); ++column) {
    for (int row = 0; row < a.size(); ++row) out(column, row) = std::conj(a(row, column));
  }
  return out;
}

double largest(const Matrix& a) {
  double most = 0;
  for (const Complex& value : a.values()) most = std::max(most, std::abs(value));
  return most;
}

Complex trace_with_adjoint(const Matrix& a, const Matrix& b) {
  Complex sum = 0;
  for (std::size_t i = 0; i < a.values().size(); ++i) sum += a.values()[i] * std::conj(b.values()[i]);
  return sum;
}

}  // namespace lifeboat::omen
