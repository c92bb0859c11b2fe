// SPDX-License-Identifier: Apache-2.0
// Energies of the scheme `invariant` and their derivatives.
//
//   P = sum_j B(r_ij) L(u_ij, S_j),   E = linear(P, S_i) + net(scalars(P, S_i)) + walls
//
// The way there and back, from pairs to E and from dE/dP to the pull on each pair, is written
// once, for numbers N. With values alone it gives energies and forces. For their gradients,
//
//   psi = sum_i ebar_i E_i + sum v . dE/d(separation, spin)
//
// it is run on duals along v, back from seeds 1 + ebar eps: the derivative of each pull is then
// what psi asks for, of weights, positions and spins alike. Nothing need be kept from the
// forward operation.
//
// Centres of one type are worked on in chunks, an atom a lane. Chunks, and so the order of all
// sums, do not depend on the number of threads: results are the same to the bit.
#include "invariant_rows.h"

namespace deepspin {
namespace DEEPSPIN_ISA {
namespace {

// Calls visit(frame, centre, neighbour, number of the pair, block) for all pairs of which an end
// is among atoms first ... last - 1 of a frame.
template <class Visit>
void for_pairs(const Invariant& p, int f, int first, int last, Visit visit) {
  for (int i = 0; i < p.nloc; ++i) {
    if (p.mask[size_t(f) * p.nloc + i] == 0.0) continue;
    const bool mine = i >= first && i < last;
    for (int e = 0; e < p.ntypes; ++e) {
      const size_t row = (size_t(f) * p.nloc + i) * p.width[e];
      for (size_t k = row; k < row + p.width[e]; ++k) {
        const int j = p.nlist[e][k];
        if (j >= 0 && (mine || (j >= first && j < last))) visit(i, j, e, k);
      }
    }
  }
}

// Memory for pulls of all pairs.
struct PairPulls {
  std::vector<Buffer> memory;
  std::vector<double*> of;  // each block
  PairPulls(const Invariant& p, int planes) {
    for (int e = 0; e < p.ntypes; ++e) {
      const size_t number = size_t(p.nf) * p.nloc * p.width[e] * planes * SIX;
      memory.push_back(allocate(number * sizeof(double)));
      of.push_back(reinterpret_cast<double*>(memory.back().get()));
    }
  }
};

// Runs work(frame, first atom, last atom) over all frames in parts for all threads.
template <class Work>
void for_frames(const Invariant& p, Work work) {
  const int parts = p.nf >= p.threads ? 1 : p.threads;
  parallel(p.threads, p.nf * parts, [&](int k) {
    const int64_t part = k % parts;
    work(k / parts, int(p.nall * part / parts), int(p.nall * (part + 1) / parts));
  });
}

template <class T>
void forward(const Invariant& p, InvariantForward& out) {
  using N = Vec<double>;
  const Shape s(p);
  const std::vector<Chunk> chunks = chunks_for<T>(p);
  const PairPulls pull(p, 1);
  const size_t all = size_t(p.nf) * p.nall;
  std::fill(out.atom_ener, out.atom_ener + size_t(p.nf) * p.nloc, 0.0);
  std::fill(out.force, out.force + 3 * all, 0.0);
  std::fill(out.spin_pull, out.spin_pull + 3 * all, 0.0);
  std::fill(out.atom_virial, out.atom_virial + 9 * all, 0.0);
  parallel(p.threads, int(chunks.size()), [&](int k) {
    const Chunk& c = chunks[k];
    Arrays<N, T> w = arrays_of<N, T>(p, s, c);
    std::vector<double> energy(c.ld);
    read_chunk<N, T>(p, s, c, Along(), w);
    energies<N, Vec<T>, T>(p, s, c, w, energy.data(), nullptr);
    pull_chunk<N, T>(p, s, c, Along(), w, pull.of);
    for (int first = 0; first < c.ld; first += 8)
      for_atoms(p, c, first, [&](int lane, int f, int i) {
        out.atom_ener[size_t(f) * p.nloc + i] = w.seed[lane] * energy[lane];
        for (int x = 0; p.magnetic[c.type] && x < 3; ++x)
          out.spin_pull[(size_t(f) * p.nall + i) * 3 + x] = w.on_spin[x * c.ld + lane];
      });
  });
  for_frames(p, [&](int f, int first, int last) {
    double* force = out.force + size_t(f) * p.nall * 3;
    double* on_spin = out.spin_pull + size_t(f) * p.nall * 3;
    double* virial = out.atom_virial + size_t(f) * p.nall * 9;
    for_pairs(p, f, first, last, [&](int i, int j, int e, size_t k) {
      const double* g = pull.of[e] + k * SIX;
      if (i >= first && i < last)
        for (int c = 0; c < 3; ++c) force[3 * i + c] += g[c];
      if (!(j >= first && j < last)) return;
      double x[3];
      separation(p, f, i, j, p.shift[e] + 3 * k, x);
      for (int a = 0; a < 3; ++a) {
        force[3 * j + a] -= g[a];
        on_spin[3 * j + a] += g[3 + a];
        for (int b = 0; b < 3; ++b) virial[9 * j + 3 * a + b] -= g[a] * x[b];
      }
    });
  });
}

// What a chunk leaves for the gradients of the nets: inputs of the layers, pulls on their sums
// in rows of lanes, derivatives first, and sums over lanes.
template <class T>
struct Left {
  std::vector<T*> x, a;
  Sums<T> sums;
  void place(const Invariant& p, const Chunk& c, Arena& arena) {
    const Net& net = p.fitting[c.type];
    for (size_t l = 0; l < net.size(); ++l) {
      const bool hidden = l + 1 < net.size();
      x.push_back(hidden ? arena.get<T>(size_t(2) * c.ld * net[l].n_in) : nullptr);
      a.push_back(hidden ? arena.get<T>(size_t(2) * c.ld * net[l].n_out) : nullptr);
      sums.layers.push_back(arena.get<T>(hidden ? 2 * net[l].n_out : net[l].n_in + 1));
    }
    sums.theta = arena.get<double>(numbers_of(p, c.type));
  }
};

template <class T>
void weight_gradients(const Invariant& p, const std::vector<Chunk>& chunks,
                      const std::vector<Left<T>>& left, const InvariantBackward& in) {
  struct Task {
    int type, layer, slot;
  };
  std::vector<Task> tasks;
  int slot = 0;
  for (int t = 0; t < p.ntypes; ++t)
    for (size_t l = 0; l < p.fitting[t].size(); ++l) {
      tasks.push_back({t, int(l), slot});
      slot += p.fitting[t][l].idt ? 3 : 2;
    }
  parallel(p.threads, int(tasks.size()), [&](int k) {
    const auto [t, l, first] = tasks[k];
    const Layer& layer = p.fitting[t][l];
    const bool last = l + 1 == int(p.fitting[t].size());
    T* matrix = static_cast<T*>(in.weights[first]);
    T* bias = static_cast<T*>(in.weights[first + 1]);
    T* idt = layer.idt ? static_cast<T*>(in.weights[first + 2]) : nullptr;
    std::fill(matrix, matrix + size_t(layer.n_in) * layer.n_out, T(0));
    std::fill(bias, bias + layer.n_out, T(0));
    if (idt) std::fill(idt, idt + layer.n_out, T(0));
    if (l == 0) std::fill(in.theta[t], in.theta[t] + numbers_of(p, t), 0.0);
    for (size_t n = 0; n < chunks.size(); ++n) {
      if (chunks[n].type != t) continue;
      const Left<T>& from = left[n];
      const T* sums = from.sums.layers[l];
      if (l == 0)
        for (int m = 0; m < numbers_of(p, t); ++m) in.theta[t][m] += from.sums.theta[m];
      if (last) {
        for (int i = 0; i < layer.n_in; ++i) matrix[i] += sums[i];
        bias[0] += sums[layer.n_in];
        continue;
      }
      for (int o = 0; o < layer.n_out; ++o) bias[o] += sums[o];
      for (int o = 0; idt && o < layer.n_out; ++o) idt[o] += sums[layer.n_out + o];
      const int depth = 2 * chunks[n].ld;
      gemm<T>(layer.n_in, layer.n_out, depth, from.x[l], depth, 1, from.a[l], layer.n_out, matrix,
              layer.n_out, true);
    }
  });
}

template <class T>
void backward_weights(const Invariant& p, InvariantBackward& in) {
  using N = Dual<Vec<double>>;
  const Shape s(p);
  const std::vector<Chunk> chunks = chunks_for<T>(p);
  std::vector<Left<T>> left(chunks.size());
  auto lay_out = [&](Arena arena) {
    for (size_t k = 0; k < chunks.size(); ++k) {
      left[k] = Left<T>();
      left[k].place(p, chunks[k], arena);
    }
    return arena.used();
  };
  const Buffer memory = allocate(lay_out(Arena()));
  lay_out(Arena(memory.get()));
  const Along along{&p, &in};
  parallel(p.threads, int(chunks.size()), [&](int k) {
    const Chunk& c = chunks[k];
    Arrays<N, T> w = arrays_of<N, T>(p, s, c);
    std::vector<double> energy(c.ld);
    std::fill(left[k].sums.theta, left[k].sums.theta + numbers_of(p, c.type), 0.0);
    read_chunk<N, T>(p, s, c, along, w);
    energies<N, Dual<Vec<T>>, T>(p, s, c, w, energy.data(), &left[k].sums);
    const Net& net = p.fitting[c.type];
    for (size_t l = 0; l + 1 < net.size(); ++l) {
      const T* x = l ? w.y[l - 1] : w.x;
      std::copy(x, x + size_t(2) * c.ld * net[l].n_in, left[k].x[l]);
      // the value of x meets the derivative of the pull, and the other way round
      std::vector<T> turned(size_t(2) * c.ld * net[l].n_out);
      transpose(net[l].n_out, 2 * c.ld, w.a[l], turned.data());
      const size_t half = size_t(c.ld) * net[l].n_out;
      std::copy(turned.begin() + half, turned.end(), left[k].a[l]);
      std::copy(turned.begin(), turned.begin() + half, left[k].a[l] + half);
    }
  });
  weight_gradients(p, chunks, left, in);
}

template <class T>
void backward_positions(const Invariant& p, InvariantBackward& in) {
  using N = Dual<Vec<double>>;
  const Shape s(p);
  const std::vector<Chunk> chunks = chunks_for<T>(p);
  const PairPulls pull(p, 2);
  const size_t all = size_t(p.nf) * p.nall;
  std::fill(in.coord, in.coord + 3 * all, 0.0);
  std::fill(in.spin, in.spin + 3 * all, 0.0);
  const Along along{&p, &in};
  parallel(p.threads, int(chunks.size()), [&](int k) {
    const Chunk& c = chunks[k];
    Arrays<N, T> w = arrays_of<N, T>(p, s, c);
    std::vector<double> energy(c.ld);
    read_chunk<N, T>(p, s, c, along, w);
    energies<N, Dual<Vec<T>>, T>(p, s, c, w, energy.data(), nullptr);
    pull_chunk<N, T>(p, s, c, along, w, pull.of);
    for (int first = 0; first < c.ld; first += 8)
      for_atoms(p, c, first, [&](int lane, int f, int i) {
        for (int x = 0; p.magnetic[c.type] && x < 3; ++x)
          in.spin[(size_t(f) * p.nall + i) * 3 + x] = w.on_spin[(2 * x + 1) * c.ld + lane];
      });
  });
  // the virial holds separations, too
  auto on_pair = [&](int f, int j, const double* g, double* on) {
    const double* virial = in.atom_virial + (size_t(f) * p.nall + j) * 9;
    for (int b = 0; b < 3; ++b) {
      on[b] = g[SIX + b];
      for (int a = 0; a < 3; ++a) on[b] -= virial[3 * a + b] * g[a];
    }
  };
  for_frames(p, [&](int f, int first, int last) {
    double *coord = in.coord + size_t(f) * p.nall * 3, *spin = in.spin + size_t(f) * p.nall * 3;
    for_pairs(p, f, first, last, [&](int i, int j, int e, size_t k) {
      const double* g = pull.of[e] + 2 * k * SIX;
      double on[3];
      on_pair(f, j, g, on);
      if (i >= first && i < last)
        for (int c = 0; c < 3; ++c) coord[3 * i + c] -= on[c];
      if (!(j >= first && j < last)) return;
      for (int c = 0; c < 3; ++c) coord[3 * j + c] += on[c], spin[3 * j + c] += g[SIX + 3 + c];
    });
  });
  parallel(p.threads, p.nf, [&](int f) {
    double* box = in.box + 9 * f;
    std::fill(box, box + 9, 0.0);
    for_pairs(p, f, 0, p.nall, [&](int, int j, int e, size_t k) {
      double on[3];
      on_pair(f, j, pull.of[e] + 2 * k * SIX, on);
      for (int c = 0; c < 3; ++c)
        for (int x = 0; x < 3; ++x) box[3 * c + x] += p.shift[e][3 * k + c] * on[x];
    });
  });
}

template <class T>
void backward(const Invariant& p, InvariantBackward& in) {
  if (in.weights.empty())  // of no atoms, pointers may be null
    backward_positions<T>(p, in);
  else
    backward_weights<T>(p, in);
}

int components(const Invariant& p) { return Shape(p).dim; }

}  // namespace

extern const InvariantKernels invariant_kernels;
const InvariantKernels invariant_kernels = {
    forward<double>, forward<float>, backward<double>, backward<float>, rows, components, numbers_of};

}  // namespace DEEPSPIN_ISA
}  // namespace deepspin
