//! The policy IR and its compilation: selectors, identities, verdicts, explanations
