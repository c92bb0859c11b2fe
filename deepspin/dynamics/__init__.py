# SPDX-License-Identifier: Apache-2.0
"""How atoms and spins move: spin-lattice dynamics of replicas of one system."""
