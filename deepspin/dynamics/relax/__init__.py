# SPDX-License-Identifier: Apache-2.0
"""Ways downhill for positions, spins and cells."""
