"""The arm: a UR5e with a Robotiq 2F-85 gripper, read from the files that come inside the ogbench wheel."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .rendering import need_mujoco

JOINTS = (
    "shoulder_pan_joint",
    "shoulder_lift_joint",
    "elbow_joint",
    "wrist_1_joint",
    "wrist_2_joint",
    "wrist_3_joint",
)
PINCH = "grip_pinch"  # the point between the finger tips
# Fingers pointing down and opening along the table's x axis, so that they never reach over a neighbouring plate.
POINTING_DOWN = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
# The elbow is up here; inverse kinematics started from here keeps it up.
HOME_JOINTS = np.array([-1.941, -1.898, 2.129, -1.801, -1.571, -1.941])
# Software OpenGL pays for every corner: of 185,000 faces a few thousand are left, and 64 pixels show no difference.
ARM_CELL, GRIPPER_CELL = 0.016, 0.004
FEWEST_FACES = 60  # a part that would have fewer is merged less


def arm_folder() -> Path:
    """The folder with the arm's model files; ogbench itself is never imported.

    Raises ImportError when the wheel is not there: its own requirements do not go with mujoco 4, so no extra can
    bring it.
    """
    found = find_spec("ogbench")
    if found is None or not found.submodule_search_locations:
        raise ImportError("the arm's model files come inside a wheel: pip install --no-deps ogbench==1.2.2")
    folder = Path(next(iter(found.submodule_search_locations))) / "manipspace" / "descriptions"
    if not (folder / "universal_robots_ur5e" / "ur5e.xml").is_file():
        raise ImportError(f"no arm in {folder}: pip install --no-deps ogbench==1.2.2")
    return folder


def arm_with_gripper() -> Any:
    """A MuJoCo specification of the arm alone, gripper attached under the prefix `grip_`."""
    mujoco = need_mujoco()
    folder = arm_folder()
    arm = mujoco.MjSpec.from_file(str(folder / "universal_robots_ur5e" / "ur5e.xml"))
    gripper = mujoco.MjSpec.from_file(str(folder / "robotiq_2f85" / "2f85.xml"))
    for specification in (arm, gripper):
        for key in list(specification.keys):  # they know nothing of the other's joints
            specification.delete(key)
        specification.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
        specification.option.impratio = 10
    for light in list(arm.lights):
        arm.delete(light)
    coarsen(arm, ARM_CELL)
    coarsen(gripper, GRIPPER_CELL)
    arm.attach(gripper, prefix="grip_", site=arm.site("attachment_site"))
    return arm


def coarsen(specification: Any, cell: float) -> None:
    """Merge the corners of every mesh that lie in one cube of `cell` metres."""
    mujoco = need_mujoco()
    model = specification.copy().compile()
    by_name = {mesh.name or Path(mesh.file).stem: mesh for mesh in specification.meshes}
    for index in range(model.nmesh):
        name = model.mesh(index).name
        first, count = model.mesh_vertadr[index], model.mesh_vertnum[index]
        corners = model.mesh_vert[first : first + count].astype(np.float64)
        first, count = model.mesh_faceadr[index], model.mesh_facenum[index]
        faces = model.mesh_face[first : first + count]
        # The compiler has moved each mesh into its principal axes: take it back.
        turn = np.empty(9)
        mujoco.mju_quat2Mat(turn, model.mesh_quat[index])
        corners = corners @ turn.reshape(3, 3).T + model.mesh_pos[index]
        merged, finer = merge_corners(corners, faces, cell), cell
        while len(merged[1]) < min(FEWEST_FACES, len(faces)):
            finer /= 2
            merged = merge_corners(corners, faces, finer)
        corners, faces = merged
        mesh = by_name[name]
        mesh.name, mesh.file = name, ""
        mesh.usernormal = mesh.userfacenormal = mesh.usertexcoord = mesh.userfacetexcoord = []
        mesh.scale, mesh.refpos, mesh.refquat = [1, 1, 1], [0, 0, 0], [1, 0, 0, 0]
        mesh.uservert, mesh.userface = corners.ravel().tolist(), faces.ravel().tolist()
        mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX  # a coarse surface need not be closed


def merge_corners(
    corners: NDArray[np.float64], faces: NDArray[np.int32], cell: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Corners (V, 3) and faces (F, 3) -> fewer of both: one corner a cube, at the mean of those it replaces."""
    cubes = np.floor((corners - corners.min(0)) / cell).astype(np.int64)
    kept, place = np.unique(cubes, axis=0, return_inverse=True)
    place = place.ravel()
    means = np.zeros((len(kept), 3))
    np.add.at(means, place, corners)
    means /= np.bincount(place)[:, None]
    moved = place[faces]
    flat = (moved[:, 0] == moved[:, 1]) | (moved[:, 1] == moved[:, 2]) | (moved[:, 0] == moved[:, 2])
    return means, np.unique(moved[~flat], axis=0)


class Reach:
    """Inverse kinematics by damped least squares: joint angles that hold the gripper upright at a place.

    It thinks in a copy of the simulation's joints, so the arm may lag behind without disturbing it.
    """

    DAMPING, LARGEST_TURN = 1e-4, 0.3  # rad in one iteration

    def __init__(self, model: Any) -> None:
        self._mujoco = need_mujoco()
        self._model, self._data = model, self._mujoco.MjData(model)
        self.positions = np.array([model.joint(name).qposadr[0] for name in JOINTS])
        self._speeds = np.array([model.joint(name).dofadr[0] for name in JOINTS])
        self._site = model.site(PINCH).id
        self._jacobian = np.zeros((6, model.nv))
        self.reset()

    def reset(self) -> None:
        """Think again from the home pose."""
        self._data.qpos[self.positions] = HOME_JOINTS

    def __call__(self, place: NDArray[np.float64], iterations: int = 6) -> NDArray[np.float64]:
        """Joint angles (6,) in radians for the finger tips at `place` (3,) in metres, from the last answer on."""
        mujoco, data, model = self._mujoco, self._data, self._model
        for _ in range(iterations):
            mujoco.mj_kinematics(model, data)
            mujoco.mj_comPos(model, data)
            mujoco.mj_jacSite(model, data, self._jacobian[:3], self._jacobian[3:], self._site)
            turn = data.site_xmat[self._site].reshape(3, 3)
            error = np.empty(6)
            error[:3] = place - data.site_xpos[self._site]
            error[3:] = 0.5 * np.cross(turn, POINTING_DOWN, axis=0).sum(1)
            jacobian = self._jacobian[:, self._speeds]
            damped = jacobian @ jacobian.T + self.DAMPING * np.eye(6)
            change = jacobian.T @ np.linalg.solve(damped, error)
            data.qpos[self.positions] += np.clip(change, -self.LARGEST_TURN, self.LARGEST_TURN)
        return np.array(data.qpos[self.positions])
