"""RGB-D videos in the layouts of other data sets, bags and recordings, as input of the pipeline."""
