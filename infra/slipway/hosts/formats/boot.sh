# Run inside a root that has a kernel and systemd-boot, its boot partition-to-be at /boot/efi; the kernel's own
# hooks do the same at each upgrade. systemd's tools take a folder for the partition where they are told to.
set -e
export SYSTEMD_RELAX_ESP_CHECKS=1
mkdir -p /etc/kernel
case $(uname -m) in aarch64) serial=ttyAMA0 ;; *) serial=ttyS0,115200 ;; esac
echo "root=LABEL=slipway-root ro console=tty0 console=$serial" >/etc/kernel/cmdline
cat >/etc/fstab <<'END'
LABEL=slipway-root / ext4 errors=remount-ro,x-systemd.growfs 0 1
LABEL=SLIPWAY-ESP /boot/efi vfat umask=0077 0 1
END
: >/etc/machine-id # a name of the machine would become one of the entries
bootctl --quiet --esp-path=/boot/efi --no-variables --entry-token=os-id --make-entry-directory=yes install
for kernel in /boot/vmlinuz-*; do
  version=${kernel#/boot/vmlinuz-}
  kernel-install --esp-path=/boot/efi --entry-token=os-id --make-entry-directory=yes \
    add "$version" "$kernel" "/boot/initrd.img-$version"
done
