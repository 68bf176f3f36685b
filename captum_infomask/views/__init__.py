# A ViewPlan says what the network is shown to score each region. Regions and an imputer make it.
