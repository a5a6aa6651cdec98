//! `mount_virtual_jetson SPEC DIR`: mounts a virtual Jetson at a folder until standard input ends, and then
//! says whether its clocks are those of the start.

use fulcrum_tests::virtual_jetson::{VirtualJetson, fuse, specs};
use std::io::Read as _;
use std::path::Path;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, folder] = &arguments[..] else {
        panic!("mount_virtual_jetson SPEC DIR");
    };
    let spec = specs().into_iter().find(|spec| spec.name == *name);
    let jetson = VirtualJetson::start(&spec.expect("a virtual board"));
    let stock = jetson.kernel().state();
    let session = fuse::mount(jetson.shared(), Path::new(folder)).expect("/dev/fuse, and root");
    println!("mounted");
    let mut rest = Vec::new();
    std::io::stdin()
        .read_to_end(&mut rest)
        .expect("standard input");
    session.umount_and_join().expect("nobody uses it any more");
    let is_stock = jetson.kernel().state() == stock;
    print!("{}", jetson.kernel().log());
    println!(
        "clocks: {}",
        if is_stock {
            "those of the start"
        } else {
            "OTHERS"
        }
    );
}
