use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::wait::wait_for;

/// A real Redis that saves nothing, on a port of the loopback.
pub(crate) struct Redis {
    child: Child,
    pub(crate) address: SocketAddr,
    directory: TempDir,
}

impl Redis {
    pub(crate) fn start() -> Self {
        let address = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let mut redis = Self { child: spawn(address, directory.path()), address, directory };
        redis.wait();
        redis
    }

    /// As `kill -9` does; everything in it is lost.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Empty, at the same address.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(self.address, self.directory.path());
        self.wait();
    }

    fn wait(&mut self) {
        wait_for("redis-server", || match self.child.try_wait().unwrap() {
            Some(status) => panic!("redis-server ended: {status}"),
            None => TcpStream::connect(self.address).map(drop).map_err(|error| error.to_string()),
        });
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(address: SocketAddr, directory: &Path) -> Child {
    Command::new(program())
        .args(["--bind", "127.0.0.1", "--port", &address.port().to_string(), "--save", "", "--appendonly", "no"])
        .arg("--dir")
        .arg(directory)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn program() -> PathBuf {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/redis/bin/redis-server");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).map(|directory| directory.join("redis-server")).chain([ours]);
    let found =
        std::env::var_os("REDIS_SERVER").map(PathBuf::from).or_else(|| places.into_iter().find(|it| it.is_file()));
    found.unwrap_or_else(|| {
        panic!("redis-server is missing: run `cargo xtask setup`, or install it (Debian: redis-server)")
    })
}
