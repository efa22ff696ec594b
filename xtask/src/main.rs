//! Development tasks.
fn main() -> anyhow::Result<()> {
    Ok(())
}
