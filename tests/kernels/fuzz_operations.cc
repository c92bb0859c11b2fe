// SPDX-License-Identifier: Apache-2.0
// The operations with inputs that have faults: shapes, types, lengths, indices, numbers.
// Each answers, and then has written all of its outputs, or refuses in words of its own.
#include <algorithm>

#include "fuzz.h"
#include "invariant.h"
#include "potential.h"
#include "stand_in.h"

namespace deepspin::base {
extern const InvariantKernels invariant_kernels;
}

namespace fuzz {
namespace {

using stand_in::Array;
using stand_in::make;
using Shape = std::vector<int64_t>;

constexpr int THREADS[] = {4, 7};   // where `options` has it, of both schemes
constexpr int MOST_THREADS = 6;     // more take time and show nothing
constexpr int64_t MOST = 1 << 16;   // elements of an array with a fault
const TF_DataType TYPES[] = {TF_FLOAT, TF_DOUBLE, TF_INT32, TF_UINT8, TF_INT64};

template <class F>
Array filled(TF_DataType type, const Shape& shape, F value) {
  Array a = make(type, shape);
  for (int64_t k = 0; k < a.size(); ++k) {
    const double x = value(k);
    if (type == TF_FLOAT) a.as<float>()[k] = float(x);
    if (type == TF_DOUBLE) a.as<double>()[k] = x;
    if (type == TF_INT32) a.as<int32_t>()[k] = int32_t(x);
    if (type == TF_INT64) a.as<int64_t>()[k] = int64_t(x);
  }
  return a;
}

// Inputs of an operation, without a fault: what all have in common.
class Inputs {
 public:
  Inputs(Bytes& in, TF_DataType type) : ordinary_(in.next() + 256 * in.below(4)), type_(type) {
    nf_ = in.below(8) ? 1 + in.below(2) : 0;
    natoms_.resize(size_t(1 + in.below(3)));
    for (int& n : natoms_) nloc_ += n = in.below(7);
  }

  std::vector<Array> inputs;

 protected:
  int ntypes() const { return int(natoms_.size()); }

  void options(const std::vector<int64_t>& values) {
    inputs.push_back(
        filled(TF_INT64, {int64_t(values.size())}, [&](int64_t k) { return values[size_t(k)]; }));
  }

  void numbers(const std::vector<double>& values) {
    inputs.push_back(
        filled(TF_DOUBLE, {int64_t(values.size())}, [&](int64_t k) { return values[size_t(k)]; }));
  }

  void doubles(const Shape& shape, double low, double high) {
    inputs.push_back(filled(TF_DOUBLE, shape, [&](int64_t) { return ordinary_.from(low, high); }));
  }

  void weights(const Shape& shape) {
    inputs.push_back(filled(type_, shape, [&](int64_t) { return ordinary_.from(-0.7, 0.7); }));
  }

  // Who is there, and neighbours among so many points.
  void lists(const std::vector<int>& widths, int npoints) {
    inputs.push_back(
        filled(TF_DOUBLE, {nf_, nloc_}, [&](int64_t) { return ordinary_.below(7) ? 1.0 : 0.0; }));
    inputs.push_back(filled(TF_INT32, {ntypes()}, [&](int64_t k) { return natoms_[size_t(k)]; }));
    for (int width : widths)
      inputs.push_back(filled(TF_INT32, {nf_, nloc_, width},
                              [&](int64_t) { return ordinary_.below(npoints + 1) - 1; }));
    for (int width : widths)
      inputs.push_back(
          filled(TF_INT32, {nf_, nloc_, width, 3}, [&](int64_t) { return ordinary_.below(3) - 1; }));
  }

  void layers(const std::vector<int>& hidden, int from, bool fitting, bool dt) {
    for (size_t l = 0; l < hidden.size() + fitting; ++l) {
      const bool last = l == hidden.size();
      const int to = last ? 1 : hidden[l];
      const bool residual = fitting ? !last && l > 0 && to == from : to == from || to == 2 * from;
      weights({from, to});
      weights({to});
      if (residual && dt) weights({to});
      from = to;
    }
  }

  Ordinary ordinary_;
  TF_DataType type_;
  int nf_ = 0, nloc_ = 0;
  std::vector<int> natoms_;
};

// Those of the scheme `ener_spin`.
class Problem : public Inputs {
 public:
  Problem(Bytes& in, TF_DataType type) : Inputs(in, type) {
    const int nblocks = ntypes() + in.below(2);
    std::vector<int> sel(nblocks), widths(nblocks);
    for (int& n : sel) n = in.below(6);
    for (int& n : widths) n = in.below(11);
    const int flags = in.next();
    const bool one_side = flags & 1, tables = flags & 2, dt[2] = {bool(flags & 4), bool(flags & 8)};
    std::vector<int> net[2];
    net[0].resize(size_t(1 + in.below(3))), net[1].resize(size_t(in.below(3)));
    for (auto& layers : net)
      for (int& w : layers) w = 1 + in.below(flags & 16 ? 9 : 3);
    if (flags & 32 && net[0].size() > 1) net[0].back() = 2 * net[0][net[0].size() - 2];
    const int channels = net[0].back(), axis = 1 + in.below(channels);
    const int nnets = one_side ? nblocks : ntypes() * nblocks;
    int slots = 0;
    for (int n : sel) slots += n;
    std::vector<int64_t> values = {ntypes(),        nblocks,     std::max(slots, 1), axis,
                                   1 + in.below(3), in.below(5), one_side,           tables,
                                   dt[0],           dt[1]};
    for (auto& layers : net) {
      values.push_back(int64_t(layers.size()));
      values.insert(values.end(), layers.begin(), layers.end());
    }
    values.insert(values.end(), sel.begin(), sel.end());
    for (int k = 0; k < ntypes() * nblocks; ++k) values.push_back(ordinary_.below(5) == 0);
    int64_t all_leaves = 0;
    std::vector<int> leaves;
    for (int k = 0; tables && k < nnets; ++k) {
      leaves.push_back(1 + ordinary_.below(3));
      all_leaves += leaves.back();
      values.push_back(leaves.back());
    }
    options(values);
    numbers({3.0, 1.0, 2.0});
    doubles({nf_, 2 * nloc_, 3}, 0.0, 4.0);
    doubles({nf_, 2 * nloc_, 3}, -0.4, 0.4);
    doubles({nf_, 3, 3}, 2.0, 4.0);
    lists(widths, 2 * nloc_);
    doubles({ntypes(), 4}, 0.0, 0.1);
    doubles({ntypes(), 4}, 0.2, 0.5);
    std::vector<double> begins;
    for (int n : leaves)
      for (int l = 0; l < n; ++l) begins.push_back(1.5 * l - 1.0);
    inputs.push_back(filled(TF_DOUBLE, {all_leaves, 2},
                            [&](int64_t k) { return k % 2 ? 1.5 : begins[size_t(k / 2)]; }));
    for (int n : leaves) weights({n, deepspin::order_of(type == TF_FLOAT), channels});
    for (int k = 0; !tables && k < nnets; ++k) layers(net[0], 1, false, dt[0]);
    for (int t = 0; t < ntypes(); ++t) layers(net[1], channels * axis, true, dt[1]);
  }

  void add_upstream(const Array& kept) {
    inputs.push_back(make(TF_UINT8, kept.shape));
    if (kept.bytes) std::memcpy(inputs.back().as<char>(), kept.as<char>(), kept.bytes);
    doubles({nf_, nloc_}, -1.0, 1.0);
    doubles({nf_, 2 * nloc_, 3}, -1.0, 1.0);
    doubles({nf_, nloc_, 9}, -1.0, 1.0);
  }
};

// Those of the scheme `invariant`, of rows too.
class Invariant : public Inputs {
 public:
  Invariant(Bytes& in, TF_DataType type, bool rows) : Inputs(in, type) {
    nall_ = nloc_ + (rows ? 0 : in.below(4));
    const int flags = in.next();
    deepspin::Invariant p{};
    p.ntypes = ntypes();
    p.nradial = 1 + in.below(5), p.ncross = in.below(std::min(p.nradial, 2) + 1);
    p.channels = 1 + in.below(4), p.axis = 1 + in.below(p.channels);
    p.soc = flags & 1, p.baseline = flags & 6;
    const bool dt = flags & 8;
    std::vector<int> hidden(rows ? 0 : size_t(in.below(3))), widths(size_t(p.ntypes));
    for (int& w : hidden) w = 1 + in.below(flags & 16 ? 9 : 3);
    for (int& n : widths) n = in.below(11);
    std::vector<int64_t> values = {p.ntypes,
                                   p.nradial,
                                   p.channels,
                                   p.axis,
                                   p.ncross,
                                   p.soc,
                                   p.baseline,
                                   1 + in.below(3),
                                   in.below(5),
                                   dt,
                                   int64_t(hidden.size())};
    values.insert(values.end(), hidden.begin(), hidden.end());
    for (int t = 0; t < p.ntypes; ++t) {
      p.magnetic.push_back(char(ordinary_.below(3) > 0));
      values.push_back(p.magnetic.back());
    }
    options(values);
    numbers({3.0, 1.0});
    doubles({nf_, nall_, 3}, 0.0, 4.0);
    doubles({nf_, nall_, 3}, -1.5, 1.5);
    doubles({nf_, 3, 3}, 2.0, 4.0);
    lists(widths, nall_);
    doubles({p.ntypes, p.ntypes * p.nradial, p.channels}, -0.5, 0.5);
    doubles({p.ntypes, p.ntypes}, -0.5, 1.5);
    const auto& kernels = deepspin::base::invariant_kernels;
    const int dim = kernels.components(p);
    int all = 0;
    for (int t = 0; t < p.ntypes; ++t) all += kernels.numbers(p, t);
    if (rows) {
      inputs.push_back(filled(TF_INT32, {all}, [&](int64_t) { return ordinary_.below(all); }));
      return;
    }
    doubles({p.ntypes}, -1.0, 1.5);
    doubles({p.ntypes}, 0.0, 2.0);
    doubles({p.ntypes, dim}, -1.0, 1.0);
    doubles({p.ntypes, dim}, 0.05, 0.3);
    doubles({p.ntypes}, 0.5, 2.0);
    for (int t = 0; t < p.ntypes; ++t) doubles({kernels.numbers(p, t)}, -0.1, 0.1);
    for (int t = 0; t < p.ntypes; ++t) layers(hidden, dim, true, dt);
  }

  void add_upstream() {
    doubles({nf_, nloc_}, -1.0, 1.0);
    for (int64_t width : {3, 3, 9}) doubles({nf_, nall_, width}, -1.0, 1.0);
  }

 private:
  int nall_;
};

void put(Array& a, int64_t k, Bytes in) {
  if (a.type == TF_FLOAT) a.as<float>()[k] = float(in.number());
  if (a.type == TF_DOUBLE) a.as<double>()[k] = in.number();
  if (a.type == TF_INT32) {
    // of a neighbour list: atoms, and perhaps their virtual atoms
    const int64_t points = a.shape.size() == 3 ? (1 + in.below(2)) * a.shape[1] : 0;
    const int64_t value = in.integer();
    a.as<int32_t>()[k] = int32_t(points && in.below(2) ? points + in.below(3) - 1 : value);
  }
  if (a.type == TF_INT64) a.as<int64_t>()[k] = in.integer();
  if (a.type == TF_UINT8) a.as<uint8_t>()[k] = uint8_t(in.next());
}

// The same contents, cut off or repeated, in another shape or type.
Array remade(const Array& old, TF_DataType type, Shape shape) {
  int64_t size = 1;
  for (int64_t d : shape) size *= d;
  if (size > MOST) return old;
  Array a = make(type, shape);
  for (size_t k = 0; k < a.bytes; ++k) a.as<char>()[k] = old.bytes ? old.as<char>()[k % old.bytes] : 0;
  return a;
}

void add_fault(std::vector<Array>& inputs, size_t first, Bytes& in) {
  if (inputs.size() <= first) return;
  const size_t which = first + size_t(in.below(int(inputs.size() - first)));
  Array& a = inputs[which];
  const int kind = in.below(8), place = in.next() + 256 * in.below(2);
  Shape shape = a.shape;
  if (kind < 2) {  // one number
    if (a.size() > 0) put(a, place % a.size(), in);
    in.next();
  } else if (kind == 2) {  // all numbers
    for (int64_t k = 0; k < a.size(); ++k) put(a, k, in);
    in.next();
  } else if (kind == 3 && !shape.empty()) {  // a length
    int64_t& d = shape[size_t(place) % shape.size()];
    const int how = in.below(4);
    d = how == 0 ? d + 1 : how == 1 ? std::max<int64_t>(d - 1, 0) : how == 2 ? 0 : 2 * d;
    a = remade(a, a.type, shape);
  } else if (kind == 4) {  // the number of dimensions
    if (place % 2 || shape.empty())
      shape.push_back(1);
    else
      shape.pop_back();
    a = remade(a, a.type, shape);
  } else if (kind == 5) {
    a = remade(a, TYPES[place % 5], shape);
  } else if (kind == 6) {
    const Array copy = a;
    if (place % 2)
      inputs.erase(inputs.begin() + long(which));
    else
      inputs.insert(inputs.begin() + long(which), copy);
  } else if (a.type == TF_UINT8 && a.bytes >= 8) {  // a number in `kept`
    const double value = in.number();
    std::memcpy(a.as<char>() + 8 * (size_t(place) % std::min<size_t>(a.bytes / 8, 64)), &value, 8);
  }
  if (kind < 7 || first > 0) return;
  for (Array& list : inputs)  // neighbours, of which there are most
    if (list.type == TF_INT32 && list.shape.size() == 3 && list.size() > 0 && in.below(2))
      put(list, place % list.size(), in);
}

void add_faults(std::vector<Array>& inputs, size_t first, int where, Bytes& in) {
  for (int k = in.below(4); k > 0; --k) add_fault(inputs, first, in);
  if (inputs.empty() || inputs[0].type != TF_INT64 || inputs[0].size() <= where) return;
  int64_t& threads = inputs[0].as<int64_t>()[where];
  if (threads > MOST_THREADS && threads <= 1 << 14) threads = MOST_THREADS;
}

void check(const stand_in::Answer& answer) {
  if (answer.code != TF_OK) {
    if (answer.message.compare(0, 10, "deepspin: ") || answer.message.size() < 15)
      fail("an error in other words:", answer.message.c_str());
    return;
  }
  for (const Array& a : answer.outputs) {
    if (a.type == TF_UINT8) continue;  // `kept` has room between its arrays
    const size_t width = stand_in::width_of(a.type);
    for (size_t k = 0; k < a.bytes; k += width) {
      const unsigned char* at = a.as<unsigned char>() + k;
      if (std::all_of(at, at + width, [](unsigned char x) { return x == stand_in::UNTOUCHED; }))
        fail("a number of an output was not written");
    }
  }
}

void potential(Bytes in, TF_DataType type) {
  Problem problem(in, type);
  add_faults(problem.inputs, 0, THREADS[0], in);
  const stand_in::Answer forward = stand_in::run("DeepspinPotential", type, true, problem.inputs);
  check(forward);
  Array kept = make(TF_UINT8, {0});
  if (forward.code == TF_OK) kept = forward.outputs.back();
  const size_t first = problem.inputs.size();
  problem.add_upstream(kept);
  add_faults(problem.inputs, first, THREADS[0], in);
  for (const char* name : {"DeepspinPotentialPositions", "DeepspinPotentialWeights"})
    check(stand_in::run(name, type, false, problem.inputs));
}

void invariant(Bytes in, TF_DataType type) {
  const bool rows = in.below(3) == 0;
  Invariant problem(in, type, rows);
  add_faults(problem.inputs, 0, THREADS[1], in);
  if (rows) return check(stand_in::run("DeepspinInvariantRows", 0, false, problem.inputs));
  check(stand_in::run("DeepspinInvariant", type, false, problem.inputs));
  const size_t first = problem.inputs.size();
  problem.add_upstream();
  add_faults(problem.inputs, first, THREADS[1], in);
  for (const char* name : {"DeepspinInvariantPositions", "DeepspinInvariantWeights"})
    check(stand_in::run(name, type, false, problem.inputs));
}

}  // namespace

void operations(Bytes in) {
  const TF_DataType type = in.below(2) ? TF_FLOAT : TF_DOUBLE;
  if (in.below(2))
    invariant(in, type);
  else
    potential(in, type);
}

}  // namespace fuzz
