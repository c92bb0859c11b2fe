# SPDX-License-Identifier: Apache-2.0
"""Temperature curves: samplers, averages with errors, transitions."""
