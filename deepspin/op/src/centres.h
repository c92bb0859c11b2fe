// SPDX-License-Identifier: Apache-2.0
// Centres of one type in chunks, an atom a lane of the vectors.
#pragma once

#include <algorithm>

#include "frames.h"
#include "simd.h"

namespace deepspin {
namespace DEEPSPIN_ISA {
namespace {

constexpr int CHUNK_UNITS = 4;  // most units of atoms in a chunk
constexpr int FEW_CHUNKS = 4;      // with fewer than these, chunks are smaller

struct Chunk {
  int type, first, n, ld;  // centres first ... first + n - 1 of the type, over all frames
};

// Frame and number of a centre of a chunk.
inline void centre(const Frames& p, const Chunk& c, int lane, int& f, int& i) {
  f = (c.first + lane) / p.natoms[c.type];
  i = p.begin[c.type] + (c.first + lane) % p.natoms[c.type];
}

// Whether a chunk has an atom.
inline bool occupied(const Frames& p, const Chunk& c) {
  for (int lane = 0; lane < c.n; ++lane) {
    int f, i;
    centre(p, c, lane, f, i);
    if (p.mask[size_t(f) * p.nloc + i] != 0.0) return true;
  }
  return false;
}

// Chunks of `unit` atoms at least, of CHUNK_UNITS times that at most, and of `few` units if
// there are enough. The same for any number of threads: sums over atoms are sums over chunks.
std::vector<Chunk> chunks_of(const Frames& p, int unit, int few) {
  const int64_t total = int64_t(p.nf) * p.nloc;
  const int64_t share = (total + FEW_CHUNKS - 1) / FEW_CHUNKS;
  const int most = CHUNK_UNITS * unit;
  const int size = round_up(int(std::min<int64_t>(most, std::max<int64_t>(few * unit, share))), unit);
  std::vector<Chunk> chunks;
  for (int t = 0; t < p.ntypes; ++t) {
    const int n = p.nf * p.natoms[t];
    for (int first = 0; first < n; first += size) {
      const int here = std::min(size, n - first);
      const Chunk chunk{t, first, here, round_up(here, unit)};
      if (occupied(p, chunk)) chunks.push_back(chunk);
    }
  }
  return chunks;
}

}  // namespace
}  // namespace DEEPSPIN_ISA
}  // namespace deepspin
