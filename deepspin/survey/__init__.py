# SPDX-License-Identifier: Apache-2.0
"""What is in data that nobody described, and is it sound."""
