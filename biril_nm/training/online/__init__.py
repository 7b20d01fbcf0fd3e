"""Online learning in memory that does not grow with time: D-RTRL and ES-D-RTRL.

Source: BrainScale / BrainTrace, Nature Communications 17:1745, 2026.
"""
