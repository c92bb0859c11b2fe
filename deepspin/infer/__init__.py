# SPDX-License-Identifier: Apache-2.0
"""What a model says: evaluation of frames."""
