# SPDX-License-Identifier: Apache-2.0
"""Pictures of result files: what they hold, and how it is drawn."""
