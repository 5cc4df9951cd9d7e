// Convolutions 3 x 3 on an Intel CPU with AMX: of SiLU(scale * x + shift), plus bias and residual,
// or of an image enlarged twofold.
//
// A library's convolution reads what a normalisation or an enlargement has written. Here the input
// is normalised while it is laid out for the matrix unit, and both are done while the unit is busy
// with what was laid out before, so that they cost little. An image with its pixels repeated is not
// made at all: an output pixel sees 2 x 2 pixels of the image, with sums of the kernel's weights
// that depend on whether its row and its column are even. These four phases take 4/9 of the
// operations.
//
// A thread takes units, each a band of rows of one image, and lays a unit out with a border of
// zeros in blocks of 32 channels: (blocks, rows + 2, width + 1, 32). The border's left and right
// columns are one, as the end of a row is followed by the start of the next. For each place of the
// kernel, 16 successive output pixels then need 16 successive lines of 64 bytes, a tile, whatever
// row they are in. What comes out in the place of the border is not written.

#include <immintrin.h>
#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <utility>

namespace {

using bf16 = std::uint16_t;

constexpr int BLOCK = 32;           // channels of a block: a line of bf16, a tile's width
constexpr int TILE = 16 * BLOCK;    // numbers in a tile of weights
constexpr int AHEAD = 8 * BLOCK;    // how far before its turn an input is fetched
constexpr long CACHED = 350 << 10;  // numbers laid out; twice as many share a cache with weights

inline long divided_up(long a, long b) { return (a + b - 1) / b; }

struct Shape {
  int height, width, inputs, outputs;  // of the input; inputs and outputs: channels
  int factor;                          // 2 where the input is enlarged, or 1
  int phases, side, places;            // kernels, and the pixels that each of them sees
  int in_blocks, out_blocks;           // of channels
  int band, bands, units;              // input rows of a unit, units of an image, units
  int pitch;                           // pixels of a row laid out
  int tiles, rows;                     // tiles of a unit, pixels of a tile
  int group;                           // units for which weights are read once
  long plane, unit;                    // numbers of one block of channels and of all, laid out

  Shape(int images, int height, int width, int inputs, int outputs, int factor)
      : height(height), width(width), inputs(inputs), outputs(outputs), factor(factor) {
    phases = factor * factor;
    side = factor == 2 ? 2 : 3;
    places = side * side;
    in_blocks = inputs / BLOCK;
    out_blocks = outputs / BLOCK;
    pitch = width + 1;
    const long row = static_cast<long>(pitch) * inputs;
    bands = divided_up(height, std::max(1L, CACHED / row - 2));
    band = divided_up(height, bands);
    units = images * bands;
    const int pixels = (band - 1) * pitch + width;
    tiles = divided_up(pixels, 16);
    rows = divided_up(pixels, tiles);
    // The last tile may reach beyond the last pixel by as many lines as it has.
    plane = (static_cast<long>(band + 2) * pitch + 1 + 16) * BLOCK;
    unit = plane * in_blocks;
    group = std::clamp(CACHED / unit, 1L, 4L);
  }

  int steps() const { return in_blocks * places; }

  // Lines from a pixel to what a place of the kernel sees of it.
  long offset(int phase, int place) const {
    return (place / side + phase / 2) * pitch + place % side + phase % 2;
  }
};

struct TileConfiguration {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};
};

inline __m512 widen(__m256i x) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}

inline __m512 widen_low(__m512i x) { return widen(_mm512_castsi512_si256(x)); }

inline __m512 widen_high(__m512i x) { return widen(_mm512_extracti64x4_epi64(x, 1)); }

inline __m512i narrow(__m512 low, __m512 high) {
  return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

// x / (1 + e^-x) to within 3e-4 of its value; bf16 rounds by up to 39e-4.
inline __m512 silu(__m512 x) {
  const __m512 power = _mm512_mul_ps(x, _mm512_set1_ps(-1.44269504f));  // of two
  const __m512 whole = _mm512_roundscale_ps(power, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 part = _mm512_sub_ps(power, whole);
  __m512 root = _mm512_set1_ps(0.0555041f);  // 2^part, by Taylor's series
  root = _mm512_fmadd_ps(root, part, _mm512_set1_ps(0.2402265f));
  root = _mm512_fmadd_ps(root, part, _mm512_set1_ps(0.6931472f));
  root = _mm512_fmadd_ps(root, part, _mm512_set1_ps(1.0f));
  const __m512 e = _mm512_scalef_ps(root, whole);
  return _mm512_mul_ps(x, _mm512_rcp14_ps(_mm512_add_ps(e, _mm512_set1_ps(1.0f))));
}

// Lays units out, a block of one pixel at a time.
class Layout {
 public:
  Layout(const Shape& shape, const bf16* x, const float* scale, const float* shift)
      : s_(shape), x_(x), scale_(scale), shift_(shift) {}

  void begin(bf16* to, int first, int count) {
    to_ = to;
    unit_ = first;
    end_ = first + count;
    begin_unit();
  }

  bool open() const { return unit_ < end_; }

  void step() {
    __m512i values = _mm512_setzero_si512();
    if (inside_) {
      _mm_prefetch(reinterpret_cast<const char*>(from_ + AHEAD), _MM_HINT_T0);
      values = _mm512_loadu_si512(from_);
      from_ += BLOCK;
    }
    if (inside_ && scale_) {
      const float *a = scales_ + block_ * BLOCK, *b = shifts_ + block_ * BLOCK;
      const __m512 low = _mm512_fmadd_ps(widen_low(values), _mm512_loadu_ps(a), _mm512_loadu_ps(b));
      const __m512 high = _mm512_fmadd_ps(widen_high(values), _mm512_loadu_ps(a + 16),
                                          _mm512_loadu_ps(b + 16));
      values = narrow(silu(low), silu(high));
    }
    _mm512_store_si512(out_, values);
    out_ += s_.plane;
    if (++block_ < s_.in_blocks) return;
    block_ = 0;
    out_ += BLOCK - s_.unit;
    if (++column_ < s_.width) return;
    if (++row_ < s_.band + 2) {
      begin_row();
    } else {
      unit_++;
      to_ += s_.unit;
      begin_unit();
    }
  }

 private:
  void begin_unit() {
    row_ = 0;
    if (open()) begin_row();
  }

  void begin_row() {
    const int image = unit_ / s_.bands, row = unit_ % s_.bands * s_.band + row_ - 1;
    column_ = 0;
    inside_ = row >= 0 && row < s_.height;
    from_ = x_ + (static_cast<long>(image) * s_.height + row) * s_.width * s_.inputs;
    if (scale_) {
      scales_ = scale_ + static_cast<long>(image) * s_.inputs;
      shifts_ = shift_ + static_cast<long>(image) * s_.inputs;
    }
    out_ = to_ + (static_cast<long>(row_) * s_.pitch + 1) * BLOCK;
  }

  const Shape& s_;
  const bf16* x_;
  const float *scale_, *shift_;
  bf16 *to_ = nullptr, *out_ = nullptr;
  const bf16* from_ = nullptr;
  const float *scales_ = nullptr, *shifts_ = nullptr;
  int unit_ = 0, end_ = 0, row_ = 0, column_ = 0, block_ = 0;
  bool inside_ = false;
};

// Writes sums of 32 output channels, a pixel at a time.
class Output {
 public:
  Output(const Shape& shape, const float* bias, const bf16* residual, bf16* y)
      : s_(shape), bias_(bias), residual_(residual), y_(y) {}

  // Sums of `count` successive pixels of a unit laid out, of which `pixel` is the first.
  void begin(const float* sums, int count, int unit, int block, int phase, int pixel) {
    const int image = unit / s_.bands, top = unit % s_.bands * s_.band;
    const float* bias = bias_ + static_cast<long>(image) * s_.outputs + block * BLOCK;
    low_ = _mm512_loadu_ps(bias);
    high_ = _mm512_loadu_ps(bias + 16);
    sums_ = sums;
    left_ = count;
    column_ = pixel % s_.pitch;
    rows_left_ = std::min(s_.band, s_.height - top) - pixel / s_.pitch;
    const long row = static_cast<long>(image) * s_.height + top + pixel / s_.pitch;
    const long own_row = row * s_.factor + phase / 2, own_column = column_ * s_.factor + phase % 2;
    at_ = (own_row * s_.width * s_.factor + own_column) * s_.outputs + block * BLOCK;
  }

  bool open() const { return left_ > 0; }

  void step() {
    left_--;
    if (column_ < s_.width && rows_left_ > 0) {
      __m512 low = _mm512_add_ps(_mm512_load_ps(sums_), low_);
      __m512 high = _mm512_add_ps(_mm512_load_ps(sums_ + 16), high_);
      if (residual_) {
        const __m512i values = _mm512_loadu_si512(residual_ + at_);
        low = _mm512_add_ps(low, widen_low(values));
        high = _mm512_add_ps(high, widen_high(values));
      }
      _mm512_storeu_si512(y_ + at_, narrow(low, high));
      at_ += static_cast<long>(s_.factor) * s_.outputs;
    }
    sums_ += BLOCK;
    if (++column_ == s_.pitch) {
      column_ = 0;
      rows_left_--;
      at_ += static_cast<long>(s_.factor - 1) * s_.width * s_.factor * s_.outputs;
    }
  }

 private:
  const Shape& s_;
  const float* bias_;
  const bf16* residual_;
  bf16* y_;
  const float* sums_ = nullptr;
  int left_ = 0, column_ = 0, rows_left_ = 0;
  long at_ = 0;
  __m512 low_ = _mm512_setzero_ps(), high_ = _mm512_setzero_ps();
};

class Scratch {
 public:
  ~Scratch() { std::free(memory_); }

  bf16* of(long numbers) {
    const long bytes = (numbers * static_cast<long>(sizeof(bf16)) + 4095) / 4096 * 4096;
    if (bytes > bytes_) {
      std::free(memory_);
      memory_ = static_cast<bf16*>(std::aligned_alloc(4096, bytes));
      bytes_ = memory_ ? bytes : 0;
    }
    return memory_;
  }

 private:
  bf16* memory_ = nullptr;
  long bytes_ = 0;
};

// Sums of products of two tiles of pixels, or one, for 32 output channels, in rows of 32. At every
// step something else is done while the matrix unit is busy.
template <typename Meanwhile>
inline void multiply(const Shape& s, const bf16* laid_out, const bf16* weights, const long* offsets,
                     bool two, float* sums, Meanwhile meanwhile) {
  const long next_tile = static_cast<long>(s.rows) * BLOCK;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int block = 0; block < s.in_blocks; block++, laid_out += s.plane) {
    for (int place = 0; place < s.places; place++, weights += 2 * TILE) {
      const bf16* pixels = laid_out + offsets[place];
      _tile_loadd(6, weights, 64);
      _tile_loadd(4, pixels, 64);
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(7, weights + TILE, 64);
      _tile_dpbf16ps(1, 4, 7);
      if (two) {
        _tile_loadd(5, pixels + next_tile, 64);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
      }
      meanwhile();
    }
  }
  _tile_stored(0, sums, 4 * BLOCK);
  _tile_stored(1, sums + 16, 4 * BLOCK);
  if (two) {
    _tile_stored(2, sums + next_tile, 4 * BLOCK);
    _tile_stored(3, sums + next_tile + 16, 4 * BLOCK);
  }
}

// Of the unit's eight tiles four hold sums, two pixels and two weights. What a library has left
// configured, which it may count on, is put back.
class Tiles {
 public:
  explicit Tiles(int rows) {
    _tile_storeconfig(&before_);
    TileConfiguration own;
    for (int i = 0; i < 8; i++) {
      own.row_bytes[i] = 64;
      own.rows[i] = static_cast<std::uint8_t>(i < 6 ? rows : 16);
    }
    _tile_loadconfig(&own);
  }

  ~Tiles() { _tile_loadconfig(&before_); }

 private:
  TileConfiguration before_;
};

// One thread's share: from one to another of all units' blocks of output channels.
void run_share(const Shape& s, Layout layout, Output output, const bf16* weights, bf16* now,
               long from, long to) {
  long offsets[4][9];
  for (int phase = 0; phase < s.phases; phase++)
    for (int place = 0; place < s.places; place++)
      offsets[phase][place] = s.offset(phase, place) * BLOCK;
  const long tiles_a_unit = divided_up(s.tiles, 2) * s.phases * s.out_blocks;
  const long lines_a_unit = static_cast<long>(s.band + 2) * s.width * s.in_blocks;
  const int layouts = divided_up(lines_a_unit, tiles_a_unit * s.steps());
  const int writes = divided_up(2 * s.rows, s.steps());
  const auto meanwhile = [&] {
    for (int i = 0; i < writes && output.open(); i++) output.step();
    for (int i = 0; i < layouts && layout.open(); i++) layout.step();
  };
  bf16* next = now + s.group * s.unit;
  for (long block = 0; block < 2L * s.group * s.in_blocks; block++)
    for (long row = 0; row <= s.band + 2; row++)
      _mm512_store_si512(now + block * s.plane + row * s.pitch * BLOCK, _mm512_setzero_si512());
  const Tiles tiles(s.rows);
  alignas(64) float sums[2][2 * 16 * BLOCK];
  int turn = 0;
  const int begin = from / s.out_blocks, end = divided_up(to, s.out_blocks);
  layout.begin(now, begin, std::min(s.group, end - begin));
  while (layout.open()) layout.step();
  for (int first = begin; first < end; first += s.group, std::swap(now, next)) {
    const int last = std::min(first + s.group, end);
    layout.begin(next, last, std::min(s.group, end - last));
    for (int block = 0; block < s.out_blocks; block++) {
      for (int unit = first; unit < last; unit++) {
        const long share = static_cast<long>(unit) * s.out_blocks + block;
        if (share < from || share >= to) continue;
        for (int phase = 0; phase < s.phases; phase++) {
          const bf16* kernel = weights + (block * s.phases + phase) * 2L * TILE * s.steps();
          for (int tile = 0; tile < s.tiles; tile += 2) {
            const bool two = tile + 1 < s.tiles;
            const long pixel = static_cast<long>(tile) * s.rows;
            turn ^= 1;
            multiply(s, now + (unit - first) * s.unit + pixel * BLOCK, kernel, offsets[phase], two,
                     sums[turn], meanwhile);
            while (output.open()) output.step();
            output.begin(sums[turn], (1 + two) * s.rows, unit, block, phase, pixel);
          }
        }
      }
    }
    while (layout.open()) layout.step();
  }
  while (output.open()) output.step();
}

}  // namespace

// x (images, height, width, inputs) in bf16; scale and shift (images, inputs) in fp32, or null, for
// an input that is taken as it is; bias (images, outputs) in fp32; residual, of y's shape in bf16,
// or null; y (images, factor * height, factor * width, outputs) in bf16. inputs and outputs are
// multiples of 32. weights (blocks of outputs, phases, blocks of inputs, places, 2, 16, 16, 2) in
// bf16: of 16 outputs each, pairs of inputs; one phase of 9 places, or with factor 2 four of 4.
// Returns whether there was memory for it.
extern "C" int convolution(const bf16* x, const float* scale, const float* shift,
                           const bf16* weights, const float* bias, const bf16* residual, bf16* y,
                           int images, int height, int width, int inputs, int outputs,
                           int factor) {
  const Shape s(images, height, width, inputs, outputs, factor);
  // There are more of these than of units, and so they are shared out more evenly.
  const long shares = static_cast<long>(s.units) * s.out_blocks;
  int complete = 1;
#pragma omp parallel reduction(&& : complete)
  {
    static thread_local Scratch scratch;
    const int threads = omp_get_num_threads(), thread = omp_get_thread_num();
    const long from = shares * thread / threads, to = shares * (thread + 1) / threads;
    bf16* memory = scratch.of(2 * s.group * s.unit);
    complete = memory != nullptr;
    if (complete && from < to)
      run_share(s, Layout(s, x, scale, shift), Output(s, bias, residual, y), weights, memory, from,
                to);
  }
  return complete;
}
