"""From RGB-D videos of hands at a table to ``info.json`` and samples, without learned weights (``stvla human process``)."""
