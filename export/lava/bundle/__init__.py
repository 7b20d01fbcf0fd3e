"""What an exported Lava bundle consists of: files that need lava-nc and numpy, and nothing else.

``lava_network.py`` (wiring), ``lava_parts.py`` and ``lava_learning.py`` (Processes), and ``run_lava.py``
(streaming, recording, command line) are used by :mod:`biril_nm.export.lava` and copied verbatim into
each bundle. The folder is a package of its own because Lava executes every file beside a Process class
when it looks for ProcessModels. Importing ``lava_network`` imports Lava, so it is imported inside
functions only.
"""
