#[cfg(test)]
mod probe {
    use meshrelay_translate::*; use meshrelay_agent::discovery; use std::sync::Arc;
    #[test] fn probe() {
        let f = meshrelay_cluster::load_fleet(std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fleet"))).unwrap();
        println!("{:?}", f.problems);
        let clusters = f.fleet.clusters.iter().map(|(n, s)| (n.clone(), discovery::Input::new(n.clone(), discovery::Settings::default()).update(s))).collect();
        let inputs = Inputs { management_cluster: "mgmt".into(), clusters };
        for _ in 0..3 { let t = std::time::Instant::now();
        let mut tr = Translator::new(Options::default());
        let out = tr.translate(&inputs);
        println!("{:?} {:?}", t.elapsed(), out.stats);
        let t = std::time::Instant::now();
        let mut i2 = inputs.clone();
        let mut e = meshrelay_snapshot::Snapshot::clone(&i2.clusters["east"]);
        let k = e.iter().find(|o| o.key().gvk.kind == "VirtualDestination").unwrap().clone();
        let mut v = k.value(); v["spec"]["ports"][0]["number"] = 1001.into();
        e.insert(Arc::new(meshrelay_snapshot::Object::from_value(&v).unwrap()));
        i2.clusters.insert("east".into(), Arc::new(e));
        let out = tr.translate(&i2);
        println!("again {:?} {:?}", t.elapsed(), out.stats);
        if std::env::var_os("SHOW").is_some() { for (c, s) in &out.outputs { for o in s.sorted() { println!("{c} {} {}", o.key(), o.value()["spec"]); } }
          println!("{}", serde_json::to_string_pretty(&serde_json::to_value(out.reports.document()).unwrap()).unwrap()); return; }
        }
    }
}
