//! Envoy's response flags, as numbers that fit into the key of a series.

/// What the gate may say. None of it comes from the network, so the list is whole.
const FLAGS: &[&str] = &[
    "-", "UH", "UF", "UO", "NR", "NC", "URX", "UC", "UT", "UR", "UPE", "LR", "LH", "DC", "DPE", "DT", "DI", "FI", "RL",
    "RLSE", "UAEX", "IH", "SI", "UMSDR", "OM", "DF", "UF,URX", "UC,URX", "UT,URX", "UR,URX", "UPE,URX", "DI,FI",
];

/// What all others are counted under.
const OTHER: u8 = 63;

/// The number of flags.
pub(crate) fn number(flags: &str) -> u8 {
    if flags.is_empty() {
        return 0;
    }
    FLAGS.iter().position(|known| *known == flags).and_then(|at| u8::try_from(at).ok()).unwrap_or(OTHER)
}

/// The flags of a number.
pub(crate) fn text(number: u8) -> &'static str {
    FLAGS.get(usize::from(number)).copied().unwrap_or("other")
}
