// Is a curvature operator what it claims to be, and how far are its products from exact ones? Asked before
// anything long, on all samples that are used.
//
// With u, v random, w = A v / |A v|, which lies among the leading eigenvectors, where rounding is largest,
// and the unit vector x halfway between v and w (A x comes of A v and A w):
//
//   not finite          A [u, v, w]; the sample and the operation are named
//   not the same twice  A w again, where the next one differs
//   mini-batches        A' x, the same matrix computed anew: samples permuted, mini-batches cut otherwise,
//                       and, of an operator in float32, in float64 by automatic differentiation
//   second derivatives  A x against (grad L(theta + h x) - grad L(theta - h x)) / 2h in float64. Which h
//                       is small enough (ReLUs switch within it) or too small (rounding) is not known: a
//                       derivative is wrong when two steps agree with each other and not with A x.
//   symmetry            <u, A v> - <v, A u>
//
// What is left is the error e of products, the root-mean-square length for unit vectors, the largest of
//
//   |A x - A' x|            mini-batches, order and, in float32, precision
//   2^-29 |A x - A32 x|     of an operator in float64, A32 being in float32: what cancels there cancels here
//   sqrt(D/2) |<u, A v> - <v, A u>| / |u||v|
//                           with A v off by an error of length e |v| and A u by one of e |u|, and u and v
//                           uniform on the sphere and independent of each other's error, <u, error> has
//                           variance e^2 |v|^2 |u|^2 / D, and the difference of the two twice that
//   |A_h w - A_h' w|        of products by differences, at two steps
//
// Where products are rounded further than their dtype (Precision), all this is of those in full precision;
// of the others the error is measured against them (make.h).
//
// Cost: A u and A v are left with the operator, known_products(), for the probes of a solver; two further
// products, A w and A' x (of an operator in float64 also A32 x, in float32); two gradients in float64, or up
// to eight where a step does not decide; eight products more where they are by differences. More only when
// something is wrong, to say what. Float64 may be several times slower than float32: of 3c3d with 500 images
// all of it takes as long as some thirteen products.
#pragma once

#include <memory>
#include <string>

#include "seigh/curvature/curvature.h"
#include "seigh/curvature/graph_source.h"

namespace seigh {

/// Throws Error, one line that says what is not so and what usually causes it; sets op.product_error().
/// `source` is the one `op` was made of; without it only what takes none is looked at: same twice, symmetric.
void check_products(CurvatureOperator& op, const std::shared_ptr<const GraphSource>& source = nullptr);

/// make_curvature_operator(), checked. With Products::automatic, products are by differences where second
/// derivatives are missing or wrong; a note of the operator says so. Throws Error as the two do.
std::unique_ptr<CurvatureOperator> make_checked_operator(const std::shared_ptr<const GraphSource>& source,
                                                         const CurvatureOptions& options,
                                                         const std::string& name,
                                                         const Context& context = Context());

}  // namespace seigh
