"""The checks of ``stvla doctor``: each judges what was measured, and says state, figure and what to do."""
