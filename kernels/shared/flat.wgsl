// index = group.x + group.y · groups.x: the workgroup's number in a grid that was folded into y
//
// A dimension holds 65,535 workgroups at most; the recorder folds what is more.

fn flat(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.x + group.y * groups.x;
}
