# Whole data sets: resumable, exact, on one machine or on Ray.
