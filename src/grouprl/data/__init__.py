"""Problems to train on and to hold out, and the prompts a policy is given for them."""
