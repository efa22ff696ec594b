use std::fmt;

use crate::YamlProblem;

/// What is wrong in one file of a cluster's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileProblem {
    /// The file as a person would name it: the cluster's folder and the path below it, `cluster1/routes.yaml`.
    pub file: String,
    /// What is wrong, and where.
    pub problem: YamlProblem,
    /// True if the objects that the file held before are still in force.
    pub last_good_in_force: bool,
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.problem)?;
        if self.last_good_in_force {
            f.write_str("; the last good state of this file stays in force")?;
        }
        Ok(())
    }
}
