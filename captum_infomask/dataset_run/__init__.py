# Runs over whole data sets: resumable and exact, on one machine or on Ray.
