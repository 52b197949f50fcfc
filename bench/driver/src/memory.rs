//! What this process holds for itself, as the kernel counts it.

/// Private memory in KiB (`Private_Clean` + `Private_Dirty` of `/proc/self/smaps_rollup`); 0 where there is no such file.
pub fn private_kib() -> f64 {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find(|l| l.starts_with(name));
        line.and_then(|l| l.split_whitespace().nth(1)).and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0)
    };
    field("Private_Clean:") + field("Private_Dirty:")
}
