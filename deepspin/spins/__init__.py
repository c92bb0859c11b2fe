# SPDX-License-Identifier: Apache-2.0
"""What a spin is: which types have one, how files hold it, how a model sees it."""
