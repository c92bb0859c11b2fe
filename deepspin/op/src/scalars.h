// SPDX-License-Identifier: Apache-2.0
// Scalars made of the sums of a chunk's centres, and back; an atom a lane, N a vector of doubles
// or a dual of it.
//
// Rows are mixtures or radial functions: arrays (rows, Row::width, planes, ld) of components and
// of what is derived from them and the centres' spins.
#pragma once

#include "channels.h"

namespace deepspin {
namespace DEEPSPIN_ISA {
namespace {

constexpr int LANES = Simd<double>::W;

// Components of a row: those of neighbours of all types, then the derived ones.
struct Row {
  Components c;
  int turned, swapped = -1, trace = -1, crossed = -1, along = -1;
  int width;
  explicit Row(bool soc) : c(true, soc), width(c.width) {
    auto next = [this](int size) { return width += size, width - size; };
    turned = next(3);  // (u S).s
    if (!soc) return;
    swapped = next(9);  // S u
    trace = next(1);    // u.S
    crossed = next(3);  // (S u).s
    along = next(1);    // u.s
  }
};

// A product of rows: of so many components from `x` of the one and `y` of the other.
struct Kind {
  int x, y, width;
};

// Kinds in the order of `SpinChannels.products`.
std::vector<Kind> kinds_of(const Row& r) {
  std::vector<Kind> kinds = {
      {r.c.u, r.c.u, 3}, {r.c.s, r.c.s, 3}, {r.c.us, r.c.us, 9}, {r.turned, r.c.u, 3}};
  if (r.along >= 0)
    kinds.insert(kinds.end(), {{r.c.us, r.swapped, 9},
                               {r.trace, r.trace, 1},
                               {r.crossed, r.c.u, 3},
                               {r.trace, r.along, 1},
                               {r.along, r.along, 1}});
  return kinds;
}

// One vector of lanes of rows, or of numbers (count, planes, ld) in general.
template <class N>
struct Lane {
  double* at;
  int ld;
  N operator[](int64_t number) const { return get<N>(at + number * PLANES<N> * ld, ld); }
  void set(int64_t number, N a) const { put(at + number * PLANES<N> * ld, ld, a); }
  void add(int64_t number, N a) const { set(number, (*this)[number] + a); }
  Lane from(int64_t number) const { return {at + number * PLANES<N> * ld, ld}; }
};

template <class N>
inline N dot(const N* a, const Lane<N>& b, int width) {
  N total = a[0] * b[0];
  for (int k = 1; k < width; ++k) total += a[k] * b[k];
  return total;
}

// What is derived in one row, from its components and the spin s of the centre.
template <class N>
void derive(const Row& r, const N* s, const Lane<N>& row) {
  for (int x = 0; x < 3; ++x) row.set(r.turned + x, dot(s, row.from(r.c.us + 3 * x), 3));
  if (r.along < 0) return;
  for (int x = 0; x < 3; ++x) {
    N crossed = row[r.c.us + x] * s[0];
    for (int y = 1; y < 3; ++y) crossed += row[r.c.us + 3 * y + x] * s[y];
    row.set(r.crossed + x, crossed);
    for (int y = 0; y < 3; ++y) row.set(r.swapped + 3 * x + y, row[r.c.us + 3 * y + x]);
  }
  row.set(r.trace, row[r.c.us] + row[r.c.us + 4] + row[r.c.us + 8]);
  row.set(r.along, dot(s, row.from(r.c.u), 3));
}

// From pulls on what is derived to those on the components and on s.
template <class N>
void derive_back(const Row& r, const N* s, const Lane<N>& row, const Lane<N>& pull, N* on_s) {
  for (int x = 0; x < 3; ++x) {
    const N turned = pull[r.turned + x];
    for (int y = 0; y < 3; ++y) {
      pull.add(r.c.us + 3 * x + y, turned * s[y]);
      on_s[y] += turned * row[r.c.us + 3 * x + y];
    }
  }
  if (r.along < 0) return;
  const N trace = pull[r.trace], along = pull[r.along];
  for (int x = 0; x < 3; ++x) {
    const N crossed = pull[r.crossed + x];
    for (int y = 0; y < 3; ++y) {
      pull.add(r.c.us + 3 * y + x, pull[r.swapped + 3 * x + y] + crossed * s[y]);
      on_s[y] += crossed * row[r.c.us + 3 * y + x];
    }
    pull.add(r.c.us + 4 * x, trace);
    pull.add(r.c.u + x, along * s[x]);
    on_s[x] += along * row[r.c.u + x];
  }
}

// x.y of two rows, one kind of product.
template <class N>
inline N multiply(const Kind& k, const Lane<N>& a, const Lane<N>& b) {
  N total = a[k.x] * b[k.y];
  for (int w = 1; w < k.width; ++w) total += a[k.x + w] * b[k.y + w];
  return total;
}

template <class N, class On>
inline void multiply_back(const Kind& k, N pull, const Lane<N>& a, const Lane<N>& b, const On& on_a,
                          const On& on_b) {
  for (int w = 0; w < k.width; ++w) {
    const N left = a[k.x + w], right = b[k.y + w];
    on_a.add(k.x + w, pull * right);
    on_b.add(k.y + w, pull * left);
  }
}

// s s, for products with elements of symmetric matrices: those off the diagonal count twice.
template <class N>
inline void square_of(const N* s, N* q) {
  for (int k = 0; k < 6; ++k) q[k] = (k < 3 ? 1.0 : 2.0) * (s[FIRST[k]] * s[SECOND[k]]);
}

// From `pull` x m on q to s.
template <class N>
inline void square_back(const N* s, N pull, const Lane<N>& m, N* on_s) {
  for (int k = 0; k < 6; ++k) {
    const N both = (k < 3 ? 1.0 : 2.0) * (pull * m[k]);
    on_s[FIRST[k]] += both * s[SECOND[k]];
    on_s[SECOND[k]] += both * s[FIRST[k]];
  }
}

// Number of components of the descriptor.
inline int components_of(int kinds, bool soc, int channels, int axis) {
  return 1 + (3 + 2 * soc + kinds * axis) * channels;
}

// The descriptor D (components, planes, ld) of mixtures M, which `derive` has completed.
template <class N>
void descriptor(const Row& r, const std::vector<Kind>& kinds, int channels, int axis, const N* s,
                const Lane<N>& m, const Lane<N>& d) {
  int next = 0;
  d.set(next++, s[0] * s[0] + s[1] * s[1] + s[2] * s[2]);
  auto of_each = [&](auto scalar) {
    for (int g = 0; g < channels; ++g) d.set(next++, scalar(m.from(int64_t(g) * r.width)));
  };
  of_each([&](Lane<N> row) { return row[r.c.one]; });
  of_each([&](Lane<N> row) { return row[r.c.ss] + row[r.c.ss + 1] + row[r.c.ss + 2]; });
  of_each([&](Lane<N> row) { return dot(s, row.from(r.c.s), 3); });
  if (r.along >= 0) {
    N q[6];
    square_of(s, q);
    of_each([&](Lane<N> row) { return dot(s, row.from(r.c.uus), 3); });
    of_each([&](Lane<N> row) { return dot(q, row.from(r.c.uu), 6); });
  }
  for (const Kind& kind : kinds)
    for (int g = 0; g < channels; ++g)
      for (int a = 0; a < axis; ++a)
        d.set(next++, multiply(kind, m.from(int64_t(g) * r.width), m.from(int64_t(a) * r.width)));
}

// From pulls on D to those on M, zero before, and on s.
template <class N>
void descriptor_back(const Row& r, const std::vector<Kind>& kinds, int channels, int axis, const N* s,
                     const Lane<N>& m, const Lane<N>& pull, const Lane<N>& on_m, N* on_s) {
  int next = 0;
  const N squared = pull[next++];
  for (int x = 0; x < 3; ++x) on_s[x] += 2.0 * (squared * s[x]);
  auto of_each = [&](auto back) {
    for (int g = 0; g < channels; ++g) {
      const int64_t row = int64_t(g) * r.width;
      back(pull[next++], m.from(row), on_m.from(row));
    }
  };
  auto with_spin = [&](int from) {
    of_each([&, from](N y, Lane<N> row, Lane<N> on) {
      for (int x = 0; x < 3; ++x) {
        on.add(from + x, y * s[x]);
        on_s[x] += y * row[from + x];
      }
    });
  };
  of_each([&](N y, Lane<N>, Lane<N> on) { on.add(r.c.one, y); });
  of_each([&](N y, Lane<N>, Lane<N> on) {
    for (int x = 0; x < 3; ++x) on.add(r.c.ss + x, y);
  });
  with_spin(r.c.s);
  if (r.along >= 0) {
    N q[6];
    square_of(s, q);
    with_spin(r.c.uus);
    of_each([&](N y, Lane<N> row, Lane<N> on) {
      for (int k = 0; k < 6; ++k) on.add(r.c.uu + k, y * q[k]);
      square_back(s, y, row.from(r.c.uu), on_s);
    });
  }
  for (const Kind& kind : kinds)
    for (int g = 0; g < channels; ++g)
      for (int a = 0; a < axis; ++a) {
        const int64_t one = int64_t(g) * r.width, other = int64_t(a) * r.width;
        multiply_back(kind, pull[next++], m.from(one), m.from(other), on_m.from(one), on_m.from(other));
      }
}

}  // namespace
}  // namespace DEEPSPIN_ISA
}  // namespace deepspin
