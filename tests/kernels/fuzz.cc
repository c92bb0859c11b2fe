// SPDX-License-Identifier: Apache-2.0
// The entry that libFuzzer and the driver in fuzz_main.cc call with bytes.
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Bytes bytes(data, size);
  if (bytes.below(4) == 0)
    fuzz::neighbors(bytes);
  else
    fuzz::operations(bytes);
  return 0;
}
