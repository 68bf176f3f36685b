# What compare measures of maps: curves, Captum's metrics, the place of what is right, agreement.
