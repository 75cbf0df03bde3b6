// few_rows_tiles.h by the instructions of AMX. They are written as assembly, for GCC 12's own functions for
// them do not tell the compiler that they read memory.
#include <cstdint>

#include "kernels/cpu/few_rows.h"
#include "kernels/cpu/few_rows_tiles.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace linnet::kernels::tile_dot {
namespace {

/// Registers 0 to 3 are sums, [tile of weights][group of rows]; 4 and 5 weights, 6 and 7 rows.
class Amx {
 public:
  Amx() = default;
  ~Amx() { asm volatile("tilerelease"); }
  Amx(const Amx&) = delete;
  Amx& operator=(const Amx&) = delete;

  /// Until the next call. What registers held is lost.
  void use(const TileShape& shape) {
    struct {
      uint8_t palette = 1, start = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {};
      uint8_t rows[16] = {};
    } config;
    static_assert(sizeof(config) == 64);
    const auto set = [&](int64_t tile, int64_t rows, int64_t words) {
      if (rows == 0 || words == 0) return;
      config.rows[tile] = static_cast<uint8_t>(rows);
      config.row_bytes[tile] = static_cast<uint16_t>(words * 4);
    };
    for (int64_t i = 0; i < 2; ++i) {
      for (int64_t r = 0; r < 2; ++r) set(2 * i + r, shape.outs[i], shape.rows[r]);
      set(4 + i, shape.outs[i], kInputs / 2);
      set(6 + i, kInputs / 2, shape.rows[i]);
      x_bytes_[i] = shape.rows[i] * 4;
    }
    asm volatile("ldtilecfg %0" : : "m"(config));
  }

  template <int kOuts, int kRows>
  void clear() {
    zero<0>();
    if constexpr (kRows > 1) zero<1>();
    if constexpr (kOuts > 1) zero<2>();
    if constexpr (kOuts > 1 && kRows > 1) zero<3>();
  }

  template <int kIndex>
  void load_weights(const uint16_t* from, int64_t stride) {
    load<4 + kIndex>(from, stride);
  }

  template <int kIndex>
  void load_rows(const uint16_t* from) {
    load<6 + kIndex>(from, x_bytes_[kIndex]);
  }

  template <int kOuts, int kRows>
  void multiply() {
    multiply_one<0, 4, 6>();
    if constexpr (kOuts > 1) multiply_one<2, 5, 6>();
    if constexpr (kRows > 1) multiply_one<1, 4, 7>();
    if constexpr (kOuts > 1 && kRows > 1) multiply_one<3, 5, 7>();
  }

  template <int kOuts, int kRows>
  void store(float (&to)[2][2][kTile * kTile]) {
    store_one<0>(to[0][0], x_bytes_[0]);
    if constexpr (kRows > 1) store_one<1>(to[0][1], x_bytes_[1]);
    if constexpr (kOuts > 1) store_one<2>(to[1][0], x_bytes_[0]);
    if constexpr (kOuts > 1 && kRows > 1) store_one<3>(to[1][1], x_bytes_[1]);
  }

 private:
  template <int kRegister>
  static void zero() {
    asm volatile("tilezero %%tmm%c0" ::"i"(kRegister));
  }
  template <int kRegister>
  static void load(const void* from, int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(kRegister) : "memory");
  }
  template <int kRegister>
  static void store_one(void* to, int64_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(kRegister) : "memory");
  }
  template <int kSums, int kWeights, int kRows>
  static void multiply_one() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSums), "i"(kWeights), "i"(kRows));
  }

  int64_t x_bytes_[2] = {};  // of a pair of inputs of all the group's rows
};

/// Linux gives a process the registers' 8 KB on request alone.
bool permitted() {
  constexpr int64_t kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM; the state's number
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
}

bool named_by_the_processor() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kBFloat16 = 1u << 22, kTiles = 1u << 24;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d & kBFloat16) != 0 && (d & kTiles) != 0;
}

}  // namespace

bool on_this_machine() {
  static const bool has = named_by_the_processor() && permitted();
  return has;
}

void product(const uint16_t* weights, int64_t in, int64_t begin, int64_t end, const uint16_t* prepared,
             int64_t rows, float* y, int64_t y_stride) {
  product<Amx>(weights, in, begin, end, prepared, rows, y, y_stride);
}

}  // namespace linnet::kernels::tile_dot

#else

namespace linnet::kernels::tile_dot {

bool on_this_machine() { return false; }
void product(const uint16_t*, int64_t, int64_t, int64_t, const uint16_t*, int64_t, float*, int64_t) {}

}  // namespace linnet::kernels::tile_dot

#endif
