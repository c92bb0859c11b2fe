// SPDX-License-Identifier: Apache-2.0
// TensorFlow's place, taken: what calls the operations of ops.cc with arrays of one's own.
#pragma once

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "tensorflow.h"

namespace stand_in {

// An array in a block of its exact size; no block if it is empty.
struct Array {
  TF_DataType type;
  std::vector<int64_t> shape;
  size_t bytes;
  std::shared_ptr<void> data;

  template <class X>
  X* as() const {
    return static_cast<X*>(data.get());
  }
  int64_t size() const;
};

constexpr unsigned char UNTOUCHED = 0xa5;  // every byte of an array at first

size_t width_of(TF_DataType type);
Array make(TF_DataType type, const std::vector<int64_t>& shape);

// What an operation answers; `outputs` in their order.
struct Answer {
  TF_Code code;
  std::string message;
  std::vector<Array> outputs;
};

Answer run(const std::string& operation, TF_DataType type, bool training,
           const std::vector<Array>& inputs);

}  // namespace stand_in
