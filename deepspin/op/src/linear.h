// SPDX-License-Identifier: Apache-2.0
// The linear part of the scheme `invariant`, `deepspin.Baseline`: energies of a chunk's centres
// and, in the same pass, their pulls.
#pragma once

#include "scalars.h"

namespace deepspin {
namespace DEEPSPIN_ISA {
namespace {

// Products of the second tier in the order of `Baseline`: of which rows with which.
struct Group {
  Kind kind;
  bool of_all[2];  // both factors: rows of all types of neighbours, or of those with spins
};

std::vector<Group> groups_of(const Invariant& p, const Row& r, int type) {
  const std::vector<Kind> k = kinds_of(r);
  const bool magnetic = p.magnetic[type];
  std::vector<Group> groups = {{k[1], {false, false}}, {k[2], {false, false}}};
  if (magnetic) groups.push_back({k[3], {false, true}});
  if (p.soc) {
    groups.push_back({k[4], {false, false}});
    groups.push_back({k[5], {false, false}});
    if (magnetic)
      groups.insert(groups.end(), {{k[6], {false, true}}, {k[7], {false, true}}, {k[8], {true, true}}});
  }
  return groups;
}

// Rows of the second tier: those of all types of neighbours, or of those with spins.
std::vector<int> rows_of_types(const Invariant& p, bool all) {
  std::vector<int> rows;
  for (int b = 0; b < p.ntypes; ++b)
    for (int c = 0; (all || p.magnetic[b]) && c < p.ncross; ++c) rows.push_back(b * p.ncross + c);
  return rows;
}

// Number of numbers of a type.
int numbers_of(const Invariant& p, int type) {
  if (!p.baseline) return 0;
  const bool magnetic = p.magnetic[type];
  int total = magnetic ? 3 : 0;
  for (int b = 0; b < p.ntypes; ++b) {
    int each = 1;
    if (magnetic) each += 1 + p.soc;
    if (magnetic && p.magnetic[b]) each += 3 + p.soc;
    total += each * p.nradial;
  }
  if (p.ncross == 0) return total;
  for (const Group& g : groups_of(p, Row(p.soc), type)) {
    const int left = int(rows_of_types(p, g.of_all[0]).size());
    const int right = int(rows_of_types(p, g.of_all[1]).size());
    total += g.of_all[0] == g.of_all[1] ? left * (left + 1) / 2 : left * right;
  }
  return total;
}

// Columns of one vector of lanes, in the order of the numbers: take(column) is told each and
// gives the pull on it, which goes to `on_s`, the pull on the spins s, and to what is called `on`.
template <class N, class Take>
struct Linear {
  const Invariant& p;
  const Row& r;
  int type;
  const N* s;
  N* on_s;
  Take take;
  N on_square = Constant<N>::of(0.0);  // pull on s.s

  // Terms of one type of neighbours, of sums P (nradial, width).
  template <class On>
  void first(int b, const Lane<N>& sums, const On& on) {
    const Components c(p.magnetic[b], p.soc);
    const bool magnetic = p.magnetic[type];
    const N square = s[0] * s[0] + s[1] * s[1] + s[2] * s[2];
    N q[6];
    square_of(s, q);
    auto of_each = [&](auto term) {
      for (int k = 0; k < p.nradial; ++k) {
        const int64_t row = int64_t(k) * c.width;
        term(sums.from(row), on.from(row));
      }
    };
    auto with_spin = [&](int from, bool squared) {
      of_each([&](Lane<N> row, On pull) {
        const N along = dot(s, row.from(from), 3);
        N y = take(squared ? square * along : along);
        if (squared) on_square += y * along, y = y * square;
        for (int x = 0; x < 3; ++x) {
          pull.add(from + x, y * s[x]);
          on_s[x] += y * row[from + x];
        }
      });
    };
    auto with_square = [&](int from) {
      of_each([&](Lane<N> row, On pull) {
        const N y = take(dot(q, row.from(from), 6));
        for (int k = 0; k < 6; ++k) pull.add(from + k, y * q[k]);
        square_back(s, y, row.from(from), on_s);
      });
    };
    of_each([&](Lane<N> row, On pull) { pull.add(c.one, take(row[c.one])); });
    if (!magnetic) return;
    of_each([&](Lane<N> row, On pull) {
      const N one = row[c.one], y = take(square * one);
      pull.add(c.one, y * square);
      on_square += y * one;
    });
    if (p.soc) with_square(c.uu);
    if (!p.magnetic[b]) return;
    with_spin(c.s, false);
    with_spin(c.s, true);
    with_square(c.ss);
    if (p.soc) with_spin(c.uus, false);
  }

  // Powers of the modulus.
  void site() {
    if (!p.magnetic[type]) return;
    const N square = s[0] * s[0] + s[1] * s[1] + s[2] * s[2], fourth = square * square;
    on_square += take(square);
    on_square += 2.0 * (take(fourth) * square);
    on_square += 3.0 * (take(fourth * square) * fourth);
  }

  // Products of rows (types x ncross, Row::width).
  template <class On>
  void second(const Lane<N>& rows, const On& on) {
    for (const Group& g : groups_of(p, r, type)) {
      const std::vector<int> left = rows_of_types(p, g.of_all[0]),
                             right = rows_of_types(p, g.of_all[1]);
      const bool same = g.of_all[0] == g.of_all[1];
      for (size_t a = 0; a < left.size(); ++a)
        for (size_t b = same ? a : 0; b < right.size(); ++b) {
          const int64_t one = int64_t(left[a]) * r.width, other = int64_t(right[b]) * r.width;
          const N y = take(multiply(g.kind, rows.from(one), rows.from(other)));
          multiply_back(g.kind, y, rows.from(one), rows.from(other), on.from(one), on.from(other));
        }
    }
  }

  void finish() {
    for (int x = 0; x < 3; ++x) on_s[x] += 2.0 * (on_square * s[x]);
  }
};

// Columns times numbers: energies, their pulls from a seed, and dL/d(numbers) if asked for.
template <class N>
struct Energies {
  const double* theta;
  N seed;
  double* gradient;  // where it is added, or null
  N energy = Constant<N>::of(0.0);

  N operator()(N column) {
    const double number = *theta++;
    energy += number * column;
    if (gradient) *gradient++ += sum<double>(derivative(seed * column));
    return number * seed;
  }
};

// Wall of spins that are too long; adds to the energy and to the pull on s.s.
template <class N>
void wall(const Invariant& p, int type, const N* s, N seed, N& energy, N& on_square) {
  const double longest = p.longest[type];
  if (!(longest > 0.0)) return;
  const double unit = 1.0 / (longest * longest);
  const N square = s[0] * s[0] + s[1] * s[1] + s[2] * s[2];
  const N ratio = unit * square + -1.0, none = Constant<N>::of(0.0);
  const N excess = pick(below(value(ratio), 0.0), none, ratio);
  energy += p.stiffness[type] * (excess * excess * excess);
  on_square += (3.0 * p.stiffness[type] * unit) * (seed * excess * excess);
}

}  // namespace
}  // namespace DEEPSPIN_ISA
}  // namespace deepspin
