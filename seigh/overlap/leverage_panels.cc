#include "seigh/overlap/leverage_panels.h"

#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include <algorithm>

#include "seigh/core/deterministic.h"
#include "seigh/core/device_memory.h"

namespace seigh {

std::vector<Rectangle> rectangles(const TensorPlaces& places, int64_t most) {
  std::vector<Rectangle> all;
  for (size_t t = 0; t < places.tensors(); ++t) {
    const UnitLayout& layout = places.layout(t);
    const int64_t row = layout.columns * layout.taps;
    int64_t rows = 1, columns = 1, taps = 1;  // of a panel
    if (row <= most) {
      rows = std::max<int64_t>(most / std::max<int64_t>(row, 1), 1);
      columns = layout.columns;
      taps = layout.taps;
    } else if (layout.taps <= most) {
      columns = most / layout.taps;
      taps = layout.taps;
    } else {
      taps = most;
    }
    if (layout.numel() == 0) continue;
    int64_t begin = places.end(t) - layout.numel();
    for (int64_t r = 0; r < layout.rows; r += rows) {
      for (int64_t c = 0; c < layout.columns; c += columns) {
        for (int64_t i = 0; i < layout.taps; i += taps) {
          all.push_back({begin,
                         {t, r, c, i},
                         std::min(rows, layout.rows - r),
                         std::min(columns, layout.columns - c),
                         std::min(taps, layout.taps - i)});
          begin += all.back().count();
        }
      }
    }
  }
  return all;
}

bool try_on_device(const Eigenspace& space, int64_t piece_bytes, int64_t bytes, const Context& context,
                   const std::function<void(int64_t rows)>& work) {
  const c10::Device device = context.device();
  if (device.is_cpu() || space.divided() || !context.ranks().alone()) return false;
  DeviceMemory memory(device, context.device_memory());
  if (!memory.obstacle().empty()) return false;
  // Rows as they are, their squares, leverages, and what is made of these.
  constexpr int64_t kCopies = 6;
  constexpr int64_t kPanel = int64_t{1} << 28;  // bytes, small beside U and worth a launch
  constexpr int64_t kFewRows = 512;             // at a time are slower than all of them here
  const int64_t row = 8 * space.count();
  const int64_t rows = std::clamp<int64_t>(std::min(piece_bytes, kPanel) / row, 1, space.dimension());
  const int64_t fit = (memory.available() - bytes) / kCopies / row;
  if (fit < std::min(rows, kFewRows)) return false;
  try {
    work(std::min(rows, fit));
    return true;
  } catch (const c10::OutOfMemoryError&) {
    memory.release();
    return false;
  }
}

void for_leverages(const Eigenspace& space, const std::vector<Rectangle>& panels, int64_t columns,
                   const std::string& task, const Context& context,
                   const std::function<void(const Rectangle& panel, const at::Tensor& squares,
                                            const at::Tensor& leverage)>& take) {
  int64_t total = 0;
  for (const Rectangle& panel : panels) total += panel.count();
  context.progress().begin(task, total, "rows");
  for (const Rectangle& panel : panels) {
    context.check_cancelled();
    const int64_t n = panel.count();
    const at::Tensor squares =
        at::empty({columns, n}, at::TensorOptions(at::kDouble).device(context.device()));
    squares.copy_(checked_rows(space, panel.begin, n).narrow(1, 0, columns).to(context.device()).t());
    squares.square_();
    const at::Tensor leverage = squares.clone();
    add_up(leverage, 0);
    take(panel, squares, leverage);
    context.progress().advance(n);
  }
  context.progress().end();
}

}  // namespace seigh
