# SPDX-License-Identifier: Apache-2.0
"""Native speed, optional: C++ kernels behind TensorFlow operations."""
