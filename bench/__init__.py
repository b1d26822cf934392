"""What a governed request costs, beside what nginx costs for merely passing it on."""
