#!/bin/sh
# Prepares this machine to keep the encrypted copies of {{.Host}}. Run it here,
# as root; what is in place already stays as it is.
set -eu
account='{{.User}}'
vault='{{.Path}}'
key='{{.SSHKey}}'
{{- if .AppendOnly}}
signer='{{.Signer}}'
command -v atobackupd >/dev/null || {
	echo "copy the program here first: scp {{.Host}}:/usr/bin/atobackupd /usr/local/bin/" >&2
	exit 1
}
{{- end}}
command -v sshd >/dev/null || [ -x /usr/sbin/sshd ] || apt-get install -y openssh-server

# The account owns the vault and nothing else. It has no shell and no password,
# and cannot change who may log in.
id "$account" >/dev/null 2>&1 ||
	useradd --system --home-dir "$(dirname "$vault")" --no-create-home --shell /usr/sbin/nologin "$account"
case $(getent passwd "$account" | cut -d: -f7) in
*/nologin | */false) ;;
*) # what follows would lock out whoever uses it
	echo "$account has a shell, so it is somebody's: set another user in [[offsite]] on {{.Host}}," >&2
	echo "and run atobackupd init there again, which writes this script anew" >&2
	exit 1
	;;
esac
usermod -p '*' "$account"
[ -d "$(dirname "$vault")" ] || install -d -m 755 "$(dirname "$vault")"
install -d -m 755 /etc/ssh/atobackup /etc/ssh/sshd_config.d
install -d -o "$account" -g "$account" -m 700 "$vault"
printf '%s\n' "$key" >/etc/ssh/atobackup/authorized_keys
chmod 644 /etc/ssh/atobackup/authorized_keys

# What the account may do: {{if .AppendOnly}}add files, and neither change nor remove one. -p
# allows these requests and refuses the rest; -u makes every new file read-only.
# No word may be added: sftp-server drops what is past the ninth.{{else}}anything, within the vault.{{end}}
cat >/etc/ssh/sshd_config.d/atobackup.conf <<END
Match User $account
    AuthorizedKeysFile /etc/ssh/atobackup/authorized_keys
    AuthenticationMethods publickey
    ForceCommand {{.ForceCommand}} -d $vault
    DisableForwarding yes
    PermitTTY no
END
"$(command -v sshd || echo /usr/sbin/sshd)" -t
systemctl reload ssh 2>/dev/null || systemctl reload sshd
{{- if .AppendOnly}}

# Such an account cannot make directories that it could use: they are made here.
install -d -o "$account" -g "$account" -m 700 /var/lib/atobackup-vault
runuser -u "$account" -- env XDG_STATE_HOME=/var/lib/atobackup-vault \
	atobackupd vault init --dir "$vault" --signer "$signer"

# Verify the copies and thin them out, every day. That needs no secret key.
printf 'VAULT="%s"\nSIGNER="%s"\n' "$vault" "$signer" >/etc/default/atobackup-vault
{{- range .Units}}
cat >/etc/systemd/system/{{.Name}} <<'END'
{{.Text}}END
{{- end}}
{{- if ne .User "atobackup"}}
for job in verify prune; do
	mkdir -p /etc/systemd/system/atobackup-vault-$job.service.d
	printf '[Service]\nUser=%s\n' "$account" >/etc/systemd/system/atobackup-vault-$job.service.d/account.conf
done
{{- end}}
systemctl daemon-reload
systemctl enable --now atobackup-vault-verify.timer atobackup-vault-prune.timer
{{- end}}

# Compare this with what {{.Host}} shows: sudo atobackupd target trust {{.Target}}
ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub
