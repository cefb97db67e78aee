"""What analysts and marketers ask: profiles, explanations, what-ifs, audits, and a fitted model."""
