# SPDX-License-Identifier: Apache-2.0
"""What an atom sees: descriptors."""
