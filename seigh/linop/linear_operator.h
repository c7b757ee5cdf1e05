// A symmetric (if complex, Hermitian) linear operator known only through its products with blocks of vectors.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace seigh {

/// An uninitialised block [rows, columns] whose columns are contiguous (strides {1, rows}).
at::Tensor empty_block(int64_t rows, int64_t columns, at::ScalarType dtype, c10::Device device = at::kCPU);
/// `x` itself if it is a block with contiguous columns, otherwise a copy that is.
at::Tensor as_block(const at::Tensor& x);

/// Symmetric or Hermitian A of size D x D, applied to D x b blocks of vectors. An operator implements
/// apply_impl; users call apply. Not thread-safe: one caller at a time.
class LinearOperator {
 public:
  /// `size` is D; `dtype` (core/dtype.h) that of vectors in and out; `name` is for messages.
  LinearOperator(int64_t size, at::ScalarType dtype, std::string name);
  virtual ~LinearOperator() = default;
  LinearOperator(const LinearOperator&) = delete;
  LinearOperator& operator=(const LinearOperator&) = delete;

  /// A V for a block V [D, b] of dtype(), on the host or on device(). Returns a new block [D, b] with
  /// contiguous columns, where V lies. Throws Error on a wrong shape or dtype, and when the product holds NaN
  /// or infinity.
  at::Tensor apply(const at::Tensor& block);

  int64_t size() const { return size_; }
  at::ScalarType dtype() const { return dtype_; }
  const std::string& name() const { return name_; }
  /// Where it multiplies.
  virtual c10::Device device() const { return at::kCPU; }
  /// Matrix-vector products so far: columns applied.
  int64_t products() const { return products_; }
  /// Wall-clock seconds spent in apply so far.
  double seconds() const { return seconds_; }
  /// Vectors worth applying at once: large enough for speed, small enough for memory.
  virtual int64_t preferred_block() const { return 64; }
  /// What was measured of the length of a product's error, of unit vectors: rounding, or that of differences
  /// where products are taken by them; a root mean square over a few vectors, in the units of A. 0: nothing
  /// was measured; then rounding in dtype() is what is to be expected.
  virtual double product_error() const { return 0; }
  /// Products that are there already, with random_gaussian(seed, Stream::error_probe, ...): block [D, any],
  /// from column 0 on; undefined: none.
  virtual at::Tensor known_products(uint64_t seed) const;
  /// The same matrix with products in the full precision of dtype(), where this operator's are rounded to
  /// fewer digits for speed; otherwise itself. Theirs is the matrix that eigenpairs are certified for. Lives
  /// as long as this operator; the two are not to multiply at the same time.
  virtual LinearOperator& in_full_precision() { return *this; }
  bool rounds() { return &in_full_precision() != this; }
  /// Whether all ranks must call apply() together (tall/divided.h).
  virtual bool collective() const { return false; }

 protected:
  /// A V for a checked block, on the block's device; may return any layout.
  virtual at::Tensor apply_impl(const at::Tensor& block) = 0;
  /// Throws Error that says why A times `vector` [D] is not finite, if the operator can tell.
  virtual void explain_not_finite(const at::Tensor& vector) const;
  /// Of products made beside apply().
  void count(int64_t products, double seconds);

 private:
  int64_t size_;
  at::ScalarType dtype_;
  std::string name_;
  int64_t products_ = 0;
  double seconds_ = 0;
};

}  // namespace seigh
