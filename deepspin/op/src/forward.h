// SPDX-License-Identifier: Apache-2.0
// Energies, forces and virials of all atoms.
#pragma once

#include <atomic>

#include "chunk.h"

namespace deepspin {
namespace DEEPSPIN_ISA {
namespace {

// Calls visit(part, net, pairs, u) for the neighbours of every atom in every block, with the
// argument u of empty slots, in so many parts at once.
template <class T, class Visit>
void for_arguments(const Problem& p, int parts, Visit visit) {
  const int64_t centres = int64_t(p.nf) * p.nloc;
  const int width = *std::max_element(p.width.begin(), p.width.end());
  parallel(p.threads, parts, [&](int part) {
    static thread_local Scratch scratch;
    Arena measure;
    Pairs::in(measure, width, order<T>());
    Arena arena(scratch.at_least(measure.used()));
    Pairs a = Pairs::in(arena, width, order<T>());
    for (int64_t at = centres * part / parts; at < centres * (part + 1) / parts; ++at) {
      const int f = int(at / p.nloc), i = int(at % p.nloc);
      if (p.mask[at] == 0.0) continue;
      int t = p.ntypes - 1;
      while (i < p.begin[t]) --t;
      for (int e = 0; e < p.nblocks; ++e) {
        if (p.excluded[t * p.nblocks + e] || p.sel[e] == 0) continue;
        gather(p, t, f, i, e, a);
        visit(part, p.net(t, e), a, -p.davg[4 * t] / p.dstd[4 * t]);
      }
    }
  });
}

inline int parts_of(const Problem& p) {
  const int64_t centres = int64_t(p.nf) * p.nloc;
  return int(std::min<int64_t>(std::max<int64_t>(centres / 16, 1), 4 * p.threads));
}

// Pieces of the tables that some pair is in; `source` are their numbers in the tables.
template <class T>
void choose_leaves(const Problem& p, Series<T>& s, std::vector<std::vector<int>>& source) {
  std::vector<Leaves> all;
  for (const Table& table : p.tables) {
    all.emplace_back();
    for (int l = 0; l < table.leaves; ++l) {
      all.back().begin.push_back(table.edges[2 * l]);
      all.back().width.push_back(table.edges[2 * l + 1]);
    }
    all.back().set_factors();
  }
  const int parts = parts_of(p);
  std::vector<std::vector<std::vector<char>>> used(parts);
  for (auto& nets : used)
    for (const Leaves& leaves : all) nets.emplace_back(leaves.size(), 0);
  for_arguments<T>(p, parts, [&](int part, int net, Pairs& a, double empty) {
    locate(all[net], a.n, a.u, a.leaf, a.tau, a.scale, a.over);
    for (int k = 0; k < a.n; ++k) used[part][net][a.leaf[k]] = 1;
    for (int k = 0; k < BATCH; ++k) a.u[k] = empty;
    locate(all[net], 1, a.u, a.leaf, a.tau, a.scale, a.over);
    used[part][net][a.leaf[0]] = 1;
  });
  s.leaves.assign(all.size(), Leaves());
  source.assign(all.size(), {});
  for (size_t net = 0; net < all.size(); ++net)
    for (int l = 0; l < all[net].size(); ++l) {
      bool any = l == 0;  // a table has one at least
      for (auto& nets : used) any |= nets[net][l] != 0;
      if (!any) continue;
      s.leaves[net].begin.push_back(all[net].begin[l]);
      s.leaves[net].width.push_back(all[net].width[l]);
      source[net].push_back(l);
    }
}

// Pieces of all nets, from where the neighbours are.
template <class T>
const char* expand_all(const Problem& p, const Embedding& embedding, Series<T>& s,
                       std::vector<std::vector<double>>& coefficients) {
  const int nnets = p.nnets(), n = order<T>(), parts = parts_of(p);
  std::vector<std::vector<Cells>> found(parts, std::vector<Cells>(nnets));
  for_arguments<T>(p, parts, [&](int part, int net, Pairs& a, double empty) {
    Cells& cells = found[part][net];
    for (int k = 0; k < a.n; ++k) cells.add(a.u[k]);
    cells.add(empty);
  });
  struct Piece {
    int net;
    int64_t cell;
    bool resolved;
    Leaves leaves;
    std::vector<double> coefficients;
  };
  std::vector<Piece> pieces;
  std::vector<double> slopes;
  for (const Net& net : embedding.nets) slopes.push_back(steepest(net));
  for (int k = 0; k < nnets; ++k) {
    std::vector<int64_t> cells;
    bool far = false;
    for (auto& part : found) {
      cells.insert(cells.end(), part[k].cells.begin(), part[k].cells.end());
      far |= part[k].far;
    }
    std::sort(cells.begin(), cells.end());
    cells.erase(std::unique(cells.begin(), cells.end()), cells.end());
    if (far || cells.size() > MAX_CELLS)
      return "points are too near each other for the kernels. Set DEEPSPIN_KERNELS=0 to go on "
             "without them";
    for (int64_t cell : cells) pieces.push_back({k, cell, false, {}, {}});
  }
  static const Transform transform_double(order_of(false)), transform_float(order_of(true));
  const Transform& transform = sizeof(T) == 4 ? transform_float : transform_double;
  const double unresolved = sizeof(T) == 4 ? UNRESOLVED_FLOAT : UNRESOLVED_DOUBLE;
  parallel(p.threads, int(pieces.size()), [&](int k) {
    Piece& piece = pieces[k];
    NodeValues nodes;
    piece.resolved =
        expand(embedding.nets[piece.net], slopes[piece.net], n, unresolved, transform,
               CELL * piece.cell, CELL, MAX_HALVINGS, nodes, piece.leaves, piece.coefficients);
  });
  s.leaves.assign(nnets, Leaves());
  coefficients.assign(nnets, {});
  for (const Piece& piece : pieces) {
    if (!piece.resolved)
      return "an embedding net is too steep for the kernels. Set DEEPSPIN_KERNELS=0 to go on without "
             "them";
    Leaves& leaves = s.leaves[piece.net];
    leaves.begin.insert(leaves.begin.end(), piece.leaves.begin.begin(), piece.leaves.begin.end());
    leaves.width.insert(leaves.width.end(), piece.leaves.width.begin(), piece.leaves.width.end());
    auto& to = coefficients[piece.net];
    to.insert(to.end(), piece.coefficients.begin(), piece.coefficients.end());
  }
  for (int k = 0; k < nnets; ++k)  // a net of no centres, or of NaN alone
    if (s.leaves[k].size() == 0) {
      s.leaves[k].begin.assign(1, 0.0);
      s.leaves[k].width.assign(1, CELL);
      coefficients[k].assign(size_t(p.channels) * n, 0.0);
    }
  return nullptr;
}

// Places all that is kept for the gradient, or measures it.
template <class T>
void place_kept(const Problem& p, Series<T>& s, const std::vector<Chunk>& chunks,
                std::vector<Values<T>>& values, Arena& arena) {
  s.place(p, arena);
  values.resize(chunks.size());
  for (size_t k = 0; k < chunks.size(); ++k) values[k].place(p, s, chunks[k], arena);
}

template <class T>
const char* forward(const Problem& p, Forward& out) {
  Series<T> s;
  std::vector<std::vector<double>> made;
  std::vector<std::vector<int>> source;
  if (p.tables.empty()) {
    Embedding embedding;
    embedding.read<T>(p.embedding);
    if (const char* error = expand_all(p, embedding, s, made)) return error;
  } else {
    choose_leaves(p, s, source);
  }
  s.count(p);
  const std::vector<Chunk> chunks = chunks_of(p, Simd<T>::W, 2);
  std::vector<Values<T>> values;
  Buffer own(nullptr, &std::free);
  if (out.keep) {
    size_t header = 1;
    for (const Leaves& leaves : s.leaves) header += 1 + 2 * leaves.size();
    auto lay_out = [&](Arena arena) {
      double* head = arena.get<double>(header);
      place_kept(p, s, chunks, values, arena);
      if (head) {
        *head++ = double(header);
        for (const Leaves& leaves : s.leaves) {
          *head++ = leaves.size();
          head = std::copy(leaves.begin.begin(), leaves.begin.end(), head);
          head = std::copy(leaves.width.begin(), leaves.width.end(), head);
        }
      }
      return arena.used();
    };
    char* kept = static_cast<char*>(out.keep(lay_out(Arena())));
    lay_out(Arena(kept));
  } else {
    auto lay_out = [&](Arena arena) {
      s.place(p, arena);
      return arena.used();
    };
    own = allocate(lay_out(Arena()));
    lay_out(Arena(own.get()));
  }
  if (p.tables.empty()) {
    std::vector<const double*> from;
    for (auto& c : made) from.push_back(c.data());
    s.fill(p, from);
  } else {
    std::vector<const T*> from;
    for (const Table& table : p.tables) from.push_back(static_cast<const T*>(table.coefficients));
    s.fill(p, from, &source);
  }
  const size_t centres = size_t(p.nf) * p.nloc;
  std::vector<Buffer> memory;
  std::vector<double*> pull;
  for (int e = 0; e < p.nblocks; ++e) {
    memory.push_back(allocate(centres * p.width[e] * 3 * sizeof(double)));
    pull.push_back(reinterpret_cast<double*>(memory.back().get()));
    if (std::any_of(p.excluded.begin(), p.excluded.end(), [](char x) { return x; }) || p.sel[e] == 0)
      std::fill(pull[e], pull[e] + centres * p.width[e] * 3, 0.0);
  }
  std::fill(out.atom_ener, out.atom_ener + centres, 0.0);
  std::atomic<int64_t> outside{0};
  parallel(p.threads, int(chunks.size()), [&](int k) {
    static thread_local Scratch scratch;
    Values<T> local;
    Values<T>& v = out.keep ? values[k] : local;
    Work<T> w;
    auto lay_out = [&](Arena arena) {
      w.place(p, s, chunks[k], arena);
      if (!out.keep) v.place(p, s, chunks[k], arena);
      return arena.used();
    };
    lay_out(Arena(scratch.at_least(lay_out(Arena()))));
    outside += forward_chunk(p, s, chunks[k], v, w, out.atom_ener, pull);
  });
  out.extrapolated = outside;
  std::fill(out.force, out.force + centres * 6, 0.0);
  std::fill(out.atom_virial, out.atom_virial + centres * 9, 0.0);
  const int parts = p.nf >= p.threads ? 1 : p.threads;
  parallel(p.threads, p.nf * parts, [&](int k) {
    const int f = k / parts;
    const int64_t part = k % parts;
    collect(p, pull, f, int(p.nloc * part / parts), int(p.nloc * (part + 1) / parts), out);
  });
  return nullptr;
}

}  // namespace
}  // namespace DEEPSPIN_ISA
}  // namespace deepspin
