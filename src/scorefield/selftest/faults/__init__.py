"""Kills, signals, disks that fail, numbers that are not finite, seeds and memory."""
