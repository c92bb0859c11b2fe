// SPDX-License-Identifier: Apache-2.0
// A driver of LLVMFuzzerTestOneInput for GCC, which has no libFuzzer: it changes inputs
// that reached code which none before had, as GCC's -fsanitize-coverage=trace-pc tells.
//
//   fuzz SECONDS [SEED]    as many inputs as that takes; the same ones for the same seed
//   fuzz replay FILE...    these inputs, once each
//
// What makes it fail is left in `crash.bin`. With Clang, leave this file out and give
// -fsanitize=fuzzer,address,undefined instead.
#include <sanitizer/common_interface_defs.h>
#include <unistd.h>

#include <algorithm>
#include <bitset>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
extern "C" const char* __asan_default_options() { return "allocator_may_return_null=1"; }

namespace {

using Input = std::vector<uint8_t>;

constexpr size_t LONGEST = 120;
constexpr unsigned SLOW = 20;  // seconds that no input takes

std::bitset<1 << 16> seen;
bool fresh = false;  // whether the input reached something new
Input current;

void save() {
  std::ofstream("crash.bin", std::ios::binary)
      .write(reinterpret_cast<const char*>(current.data()), std::streamsize(current.size()));
  std::fprintf(stderr, "the input is in crash.bin (%zu bytes)\n", current.size());
}

void stop(int signal) {
  std::fprintf(stderr, signal == SIGALRM ? "FAILED: more than %u s\n" : "FAILED\n", SLOW);
  save();
  std::_Exit(1);
}

void run(const Input& input) {
  current = input;
  fresh = false;
  alarm(SLOW);
  // a block of its exact size
  const Input copy(input);
  LLVMFuzzerTestOneInput(copy.data(), copy.size());
  alarm(0);
}

Input changed(const Input& from, const Input& other, std::mt19937& random) {
  Input result = from;
  auto below = [&](size_t n) { return size_t(random() % std::max<size_t>(n, 1)); };
  for (size_t k = 1 + below(4); k > 0; --k) {
    const size_t at = below(result.size());
    switch (below(6)) {
      case 0:
      case 1:
        if (!result.empty()) result[at] = uint8_t(random());
        break;
      case 2:
        if (!result.empty()) result[at] = uint8_t(random() % 16);
        break;
      case 3: result.insert(result.begin() + long(at), uint8_t(random())); break;
      case 4:
        if (!result.empty()) result.erase(result.begin() + long(at));
        break;
      default:  // the rest of another one
        result.resize(std::min(at, other.size()));
        result.insert(result.end(), other.begin() + long(result.size()), other.end());
    }
  }
  result.resize(std::min(result.size(), LONGEST));
  return result;
}

}  // namespace

// of the files compiled with -fsanitize-coverage=trace-pc
extern "C" void __sanitizer_cov_trace_pc() {
  const uintptr_t place = reinterpret_cast<uintptr_t>(__builtin_return_address(0));
  const size_t k = (place * 0x9e3779b97f4a7c15u) >> 48;
  if (!seen[k]) seen[k] = fresh = true;
}

int main(int argc, char** argv) {
  __sanitizer_set_death_callback(save);
  for (int signal : {SIGABRT, SIGALRM, SIGFPE}) std::signal(signal, stop);
  if (argc > 2 && !std::strcmp(argv[1], "replay")) {
    for (int k = 2; k < argc; ++k) {
      std::ifstream file(argv[k], std::ios::binary);
      if (!file) return std::fprintf(stderr, "no file %s\n", argv[k]), 2;
      run(Input(std::istreambuf_iterator<char>(file), {}));
    }
    return 0;
  }
  const double seconds = argc > 1 ? std::atof(argv[1]) : 10;
  std::mt19937 random(argc > 2 ? unsigned(std::atoi(argv[2])) : 1u);
  std::vector<Input> corpus(1);
  for (int k = 0; k < 64; ++k) {
    Input input(LONGEST);
    for (uint8_t& x : input) x = uint8_t(random());
    corpus.push_back(input);
  }
  for (size_t k = 0; k < corpus.size(); ++k) run(corpus[k]);
  const auto begin = std::chrono::steady_clock::now();
  long count = long(corpus.size());
  for (;; ++count) {
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - begin;
    if (spent.count() > seconds) break;
    const Input input =
        changed(corpus[random() % corpus.size()], corpus[random() % corpus.size()], random);
    run(input);
    if (fresh) corpus.push_back(input);
  }
  std::printf("%ld inputs, %zu of them kept, %zu places reached\n", count, corpus.size(), seen.count());
}
