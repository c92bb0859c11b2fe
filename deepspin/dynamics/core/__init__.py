# SPDX-License-Identifier: Apache-2.0
"""Fields, states, integrators: what all that moves is made of."""
