use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::{Client, ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo, Value};
use tempfile::TempDir;

use crate::process::send;
use crate::wait::DEADLINE;

/// How often another port is tried: somebody else may take one between looking and using it.
const ATTEMPTS: usize = 20;

/// The program, or the words what to do.
fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("REDIS_SERVER") {
        return path.into();
    }
    let ours = tool("redis/bin/redis-server");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).map(|directory| directory.join("redis-server")).chain([ours]);
    places.into_iter().find(|place| place.is_file()).unwrap_or_else(|| {
        panic!(
            "redis-server is missing: run `cargo xtask setup`, or install it (Debian: redis-server), \
             or set REDIS_SERVER to its path"
        )
    })
}

/// A program that `cargo xtask setup` installs.
fn tool(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools").join(path)
}

/// A port of the loopback that nobody uses now.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// A real Redis on a free port of the loopback, which ends with the value that stands for it.
#[derive(Debug)]
pub struct Redis {
    program: PathBuf,
    child: Child,
    /// Where it listens.
    pub port: u16,
    directory: TempDir,
    arguments: Vec<String>,
}

impl Redis {
    /// A server that saves nothing, with more arguments; `PORT` in them is its port, `DIR` its folder.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, |_, _| {})
    }

    /// A Valkey, which is to behave as Redis does; `None` where none is installed.
    pub fn valkey() -> Option<Self> {
        let program = tool("valkey/bin/valkey-server");
        program.is_file().then(|| Self::start_program(&program, &[], |_, _| {}))
    }

    /// A Sentinel that watches the master at that port, with that password.
    pub fn sentinel(name: &str, master: u16, password: &str) -> Self {
        Self::start_with(&["DIR/sentinel.conf", "--sentinel"], |port, directory| {
            let text = format!(
                "port {port}\nbind 127.0.0.1\ndir {directory}\nlogfile {directory}/log\nunixsocket {directory}/socket\n\
                 sentinel monitor {name} 127.0.0.1 {master} 1\nsentinel auth-pass {name} {password}\n\
                 sentinel down-after-milliseconds {name} 500\nsentinel failover-timeout {name} 5000\n",
                directory = directory.display()
            );
            std::fs::write(directory.join("sentinel.conf"), text).unwrap();
        })
    }

    /// With a folder that `prepare` gets ready, given port and folder.
    pub fn start_with(arguments: &[&str], prepare: impl Fn(u16, &Path)) -> Self {
        Self::start_program(&program(), arguments, prepare)
    }

    fn start_program(program: &Path, arguments: &[&str], prepare: impl Fn(u16, &Path)) -> Self {
        let given = arguments.iter().map(|&argument| argument.to_owned()).collect::<Vec<_>>();
        for _ in 0..ATTEMPTS {
            let (port, directory) = (free_port(), TempDir::new().unwrap());
            prepare(port, directory.path());
            let child = spawn(program, port, directory.path(), &given);
            let mut server = Self { program: program.to_owned(), child, port, directory, arguments: given.clone() };
            if server.answers() {
                return server;
            }
        }
        panic!("no {} came up with {given:?}", program.display());
    }

    /// Host and port.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where it keeps what it saves, and its log.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// As `kill -9` does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends a signal: `STOP` makes it hang with its connections open, `CONT` ends that.
    pub fn signal(&self, signal: &str) {
        send(signal, &self.child);
    }

    /// On the same port as before, with what it saved.
    pub fn restart(&mut self) {
        let end = Instant::now() + DEADLINE;
        loop {
            self.child = spawn(&self.program, self.port, self.directory.path(), &self.arguments);
            if self.answers() {
                return;
            }
            // The port is somebody else's for now.
            assert!(Instant::now() < end, "redis-server does not come up again: {}", self.log());
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Waits until it takes commands; false if it ended instead.
    fn answers(&mut self) -> bool {
        let end = Instant::now() + DEADLINE;
        while self.child.try_wait().unwrap().is_none() {
            let mut connection = self.client().get_connection();
            match connection.as_mut().map(|connection| redis::cmd("PING").query::<Value>(connection)) {
                Ok(Ok(_)) => return true,
                // It wants a password: it is up.
                Ok(Err(error)) if error.code() == Some("NOAUTH") => return true,
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
            assert!(Instant::now() < end, "redis-server does not answer: {}", self.log());
        }
        false
    }

    /// For the one who looks after it: by its socket in the file system, which needs neither TLS nor a network.
    fn client(&self) -> Client {
        let place = ConnectionAddr::Unix(self.directory.path().join("socket"));
        let mut login = RedisConnectionInfo::default();
        if let Some(at) = self.arguments.iter().position(|argument| argument == "--requirepass") {
            login = login.set_password(&self.arguments[at + 1]);
        }
        Client::open(place.into_connection_info().unwrap().set_redis_settings(login)).unwrap()
    }

    /// Runs a command, given as words.
    pub fn try_run(&self, words: &str) -> redis::RedisResult<Value> {
        let mut words = words.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        words.for_each(|word| {
            command.arg(word);
        });
        command.query(&mut self.client().get_connection()?)
    }

    /// Runs a command that works.
    pub fn run(&self, words: &str) -> Value {
        self.try_run(words).unwrap_or_else(|error| panic!("{words}: {error}"))
    }

    /// All that is in it: the values of all keys with the names of their fields, as they are kept.
    pub fn contents(&self) -> Vec<Vec<u8>> {
        let mut connection = self.client().get_connection().unwrap();
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
        let mut all = Vec::new();
        for key in keys {
            let kind: String = redis::cmd("TYPE").arg(&key).query(&mut connection).unwrap();
            let (command, range): (_, &[&str]) = match kind.as_str() {
                "hash" => ("HGETALL", &[]),
                "stream" => ("XRANGE", &["-", "+"]),
                "string" => ("GET", &[]),
                // It ended in between.
                "none" => continue,
                other => panic!("{key} is a {other}, and nobody reads it here"),
            };
            let value: Value = redis::cmd(command).arg(&key).arg(range).query(&mut connection).unwrap();
            texts(value, &mut all);
            all.push(key.into_bytes());
        }
        all
    }

    /// What `INFO` says under that name.
    pub fn info(&self, name: &str) -> String {
        let info: String = redis::from_redis_value(self.run("INFO everything")).unwrap();
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("INFO has no {name}")).to_owned()
    }
}

/// The texts of an answer.
fn texts(value: Value, all: &mut Vec<Vec<u8>>) {
    match value {
        Value::BulkString(text) => all.push(text),
        Value::Array(values) => values.into_iter().for_each(|value| texts(value, all)),
        Value::Map(pairs) => pairs.into_iter().for_each(|(key, value)| {
            texts(key, all);
            texts(value, all);
        }),
        _ => {}
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(program: &Path, port: u16, directory: &Path, arguments: &[String]) -> Child {
    let fill =
        |argument: &String| argument.replace("PORT", &port.to_string()).replace("DIR", &directory.to_string_lossy());
    let mut command = Command::new(program);
    let given: Vec<_> = arguments.iter().map(fill).collect();
    // A Sentinel has all of it in its file, which has to come first.
    if !arguments.iter().any(|argument| argument == "--sentinel") {
        let (port, directory) = (port.to_string(), directory.display());
        let mut all = vec!["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
        if !arguments.iter().any(|argument| argument == "--port") {
            all.extend(["--port", &port]);
        }
        command.args(all).args(["--unixsocket", &format!("{directory}/socket")]);
        command.args(["--dir", &directory.to_string(), "--logfile", &format!("{directory}/log")]);
    }
    let command = command.args(given).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap_or_else(|error| panic!("cannot run {}: {error}", program.display()))
}
