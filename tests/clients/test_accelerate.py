"""accelerate keeps weights on the disk, and loads them where they are needed."""


def test_a_model_of_which_weights_are_on_the_disk_gives_the_same_answers(run, workspace):
    found = run("accelerate_offload")
    assert set(found["ask"].model.hf_device_map.values()) == {"cpu", "disk"}
    assert found["answers"] == [row["answer"] for row in workspace.known]
